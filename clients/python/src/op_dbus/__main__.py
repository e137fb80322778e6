"""`python -m op_dbus call AGENT OPERATION [JSON]`: one call, for scripts. `op-dbusctl` does much more."""

import sys

from op_dbus.blocking import AgentClient
from op_dbus.errors import Error


def main() -> int:
    """Prints the response as JSON; 1 if the call failed, 2 if the command line is wrong."""
    match sys.argv[1:]:
        case ["call", agent, operation, *rest] if len(rest) < 2:
            try:
                with AgentClient() as client:
                    print(client.call_json(agent, operation, rest[0] if rest else "{}"))
            except Error as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            return 0
    print("usage: python -m op_dbus call AGENT OPERATION [JSON]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
