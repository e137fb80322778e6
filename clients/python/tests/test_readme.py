"""What the README and the examples say, as they say it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ENVIRONMENT = os.environ | {
    "OP_DBUS_ADDRESS": os.environ["OPDBUS_GRPC"],
    "OP_DBUS_BUS": os.environ["OPDBUS_BUS"],
}


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_of_the_readme_run(program: str) -> None:
    run("-m", "op_dbus", "call", "memory", "Remember", '{"key": "build-host", "value": "atlas"}')
    said = run("-W", "error", "-c", program)
    assert said.strip() and len(PROGRAMS) == 3


def test_a_call_from_a_script() -> None:
    assert '"pong"' in run("-m", "op_dbus", "call", "agents", "Ping", '{"payload":"pong"}')
    command = [sys.executable, "-m", "op_dbus", "call", "nobody", "Nothing"]
    failed = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert failed.returncode == 1 and "there is no agent nobody" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert subprocess.run(command[:3], capture_output=True).returncode == 2


def test_the_example_counts_until_it_is_told_to_end(key: str) -> None:
    command = [sys.executable, PACKAGE / "examples/count_rounds.py", key]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as counting:
        assert counting.stdout and counting.stderr
        assert [": round 1;" in counting.stdout.readline()] == [True]
        assert ": round 2;" in counting.stdout.readline()
        counting.send_signal(signal.SIGTERM)
        assert counting.wait(20) == 0
        assert counting.stderr.read() == ""
