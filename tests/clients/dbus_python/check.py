"""dbus-fast, a D-Bus client that shares no code with zbus, against a running op-dbus.

Takes the bus's address from OPDBUS_BUS; prints `ok WHAT` for each check and stops at the first that
fails.
"""

import asyncio
import json
import os
import uuid

from dbus_fast import DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.introspection import Node

NAME = "org.opdbus.Agents1"
ROOT = "/org/opdbus/Agents1"
MEMORY = f"{ROOT}/agent/memory"
PROPERTIES = "org.freedesktop.DBus.Properties"


class Client:
    """Raw calls, so that a reply's signature and an error's name are seen as they travelled."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus

    async def send(self, path: str, interface: str, member: str, signature: str, *body) -> Message:
        return await self.bus.call(
            Message(
                destination=NAME,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
        )

    async def call(self, path: str, interface: str, member: str, signature: str = "", *body):
        reply = await self.send(path, interface, member, signature, *body)
        assert reply.message_type is MessageType.METHOD_RETURN, (
            f"{interface}.{member}: {reply.error_name}: {reply.body}"
        )
        return reply

    async def refused(self, error: str, names: str, *call) -> None:
        reply = await self.send(*call)
        assert reply.message_type is MessageType.ERROR, f"{call[2]} was not refused"
        assert reply.error_name == error, f"{call[2]}: {reply.error_name}, not {error}"
        assert reply.signature == "s", f"{error} bears {reply.signature}"
        assert names in reply.body[0], f"{error} does not name {names}: {reply.body[0]}"
        print(f"ok {call[2]} is refused with {error}, which names {names!r}")


async def every_object(client: Client) -> dict[str, Node]:
    """Parses the XML of every object below `/`."""
    nodes: dict[str, Node] = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        reply = await client.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")
        nodes[path] = node = Node.parse(reply.body[0])
        waiting += [f"{path.rstrip('/')}/{child.name}" for child in node.nodes]
    assert ROOT in nodes and MEMORY in nodes, f"only found {sorted(nodes)}"
    print(f"ok the introspection XML of {len(nodes)} objects parses")
    return nodes


async def properties(client: Client, nodes: dict[str, Node]) -> None:
    """Every property that the XML promises can be read, alone and with GetAll, and no other is there."""
    count = 0
    for path, node in nodes.items():
        for interface in node.interfaces:
            promised = {item.name: item.signature for item in interface.properties}
            if not promised:
                continue
            got = (await client.call(path, PROPERTIES, "GetAll", "s", interface.name)).body[0]
            assert promised == {name: value.signature for name, value in got.items()}, (
                f"{path} {interface.name}: {promised} and {got}"
            )
            for name, value in got.items():
                reply = await client.call(path, PROPERTIES, "Get", "ss", interface.name, name)
                assert reply.body[0].signature == value.signature, f"{name}: {reply.body[0]}"
                count += 1
    assert count > 0, "no object has a property"
    print(f"ok {count} properties can be read and have the type that the XML promises")


async def managed_objects(client: Client, nodes: dict[str, Node]) -> None:
    reply = await client.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    objects = reply.body[0]
    assert "org.opdbus.Memory1" in objects[MEMORY] and "org.opdbus.Agent1" in objects[MEMORY]
    for path, interfaces in objects.items():
        promised = {interface.name for interface in nodes[path].interfaces}
        assert set(interfaces) <= promised, f"{path}: {set(interfaces) - promised} is not in the XML"
    print(f"ok GetManagedObjects gives {len(objects)} objects, each with interfaces that its XML has")


async def memory(client: Client) -> None:
    """The main job through a proxy that dbus-fast makes from the XML, and by CallJson."""
    proxy = client.bus.get_proxy_object(NAME, MEMORY, await client.bus.introspect(NAME, MEMORY))
    typed = proxy.get_interface("org.opdbus.Memory1")
    key = f"dbus-python-{uuid.uuid4()}"
    value = {
        "text": Variant("s", "Grüße"),
        "number": Variant("d", 2.5),
        "list": Variant("av", [Variant("b", True), Variant("s", "x")]),
    }
    options = {"tags": Variant("as", ["a", "b"]), "ttl": Variant("x", 3_600_000_000)}
    version, created, extra = await typed.call_remember(key, Variant("a{sv}", value), options)
    assert version > 0 and created is True, (version, created)
    assert extra["expires_at"].signature == "x", extra
    recalled, recalled_version, extra = await typed.call_recall(key, {})
    assert recalled.signature == "a{sv}" and recalled.value == value, recalled
    assert recalled_version == version, (recalled_version, version)
    assert extra["tags"].value == ["a", "b"], extra
    print("ok Remember and Recall through the proxy give back the nested value, version and tags")

    reply = await client.call(
        MEMORY, "org.opdbus.Agent1", "CallJson", "ssa{sv}", "Recall", f'{{"key": "{key}"}}', {}
    )
    assert reply.signature == "s" and "Grüße" in reply.body[0], reply.body
    print("ok CallJson recalls the same key")

    again = {"if_absent": Variant("b", True)}
    stale = {"if_version": Variant("t", version + 7)}
    call = (MEMORY, "org.opdbus.Memory1")
    remember = (*call, "Remember", "sva{sv}", key, Variant("s", "y"))
    error = "org.opdbus.Error"
    await client.refused(f"{error}.AlreadyExists", key, *remember, again)
    await client.refused(f"{error}.Conflict", str(version), *remember, stale)
    gone = f"gone-{uuid.uuid4()}"
    await client.refused(f"{error}.NotFound", gone, *call, "Recall", "sa{sv}", gone, {})
    unknown = {"colour": Variant("s", "red")}
    await client.refused(f"{error}.InvalidArgument", "colour", *call, "Recall", "sa{sv}", key, unknown)
    wrong = {"ttl": Variant("as", [])}
    await client.refused(f"{error}.InvalidArgument", "ttl", *remember, wrong)
    await client.refused(f"{error}.InvalidArgument", "sa{sv}", *call, "Recall", "s", key)
    count, _extra = await typed.call_forget(key, {})
    assert count == 1, count
    await client.refused(f"{error}.NotFound", key, *call, "Recall", "sa{sv}", key, {})


async def tasks(client: Client) -> None:
    """A detached call by the path that was chosen before, and one on a descriptor."""
    key = f"dbus-python-{uuid.uuid4()}"
    remember = (MEMORY, "org.opdbus.Memory1", "Remember", "sva{sv}", key, Variant("s", "x"))
    path = f"{ROOT}/task/{client.bus.unique_name[1:].replace('.', '_')}_mine"
    signals: list[Message] = []
    finished = asyncio.Event()

    def seen(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path == path:
            signals.append(message)
            if message.member == "Finished":
                finished.set()

    client.bus.add_message_handler(seen)
    token = {"detach": Variant("b", True), "handle-token": Variant("s", "mine")}
    reply = await client.call(*remember, token)
    assert reply.signature == "o" and reply.body == [path], reply.body
    await asyncio.wait_for(finished.wait(), 10)
    client.bus.remove_message_handler(seen)
    messages = [signal for signal in signals if signal.member == "Message"]
    assert [message.body[0] for message in messages] == [1], messages
    assert messages[0].body[2]["version"].value > 0, messages[0].body
    assert signals[-1].body[:2] == ["completed", ""], signals[-1].body
    all_of_it = (await client.call(path, PROPERTIES, "GetAll", "s", "org.opdbus.Task1")).body[0]
    assert all_of_it["State"].value == "completed" and all_of_it["Operation"].value == "Remember"
    print("ok a detached call has the path that its token says, its message and its end")

    reader, writer = os.pipe()
    options = {
        "detach": Variant("b", True),
        "output-fd": Variant("h", 0),
        "output-format": Variant("s", "json"),
    }
    message = Message(
        destination=NAME,
        path=MEMORY,
        interface="org.opdbus.Memory1",
        member="Recall",
        signature="sa{sv}",
        body=[key, options],
        unix_fds=[writer],
    )
    reply = await client.bus.call(message)
    os.close(writer)
    assert reply.message_type is MessageType.METHOD_RETURN, reply.body
    with open(reader, encoding="utf-8") as lines:
        text = await asyncio.get_running_loop().run_in_executor(None, lines.read)
    assert json.loads(text)["value"] == "x", text
    print("ok output-fd gives the message as a line of JSON and then ends")


class Signals:
    """What comes from one object, in order."""

    def __init__(self, client: Client, path: str) -> None:
        self.bus, self.path = client.bus, path
        self.waiting: asyncio.Queue[Message] = asyncio.Queue()

    def __enter__(self) -> "Signals":
        self.bus.add_message_handler(self._seen)
        return self

    def __exit__(self, *_) -> None:
        self.bus.remove_message_handler(self._seen)

    def _seen(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path == self.path:
            self.waiting.put_nowait(message)

    async def next(self) -> Message:
        return await asyncio.wait_for(self.waiting.get(), 10)


async def older(client: Client) -> None:
    """The older interface through a proxy, with its signal, and its errors."""
    name, path = "org.dbusmcp.Agent.Memory", "/org/dbusmcp/Agent/Memory"
    proxy = client.bus.get_proxy_object(name, path, await client.bus.introspect(name, path))
    agent = proxy.get_interface("org.dbusmcp.Agent")
    first = proxy.get_interface("org.dbusmcp.Agent.Memory")
    completed: asyncio.Queue[tuple[str, bool, str]] = asyncio.Queue()

    def seen(*arguments) -> None:
        completed.put_nowait(arguments)

    agent.on_task_completed(seen)
    key = f"dbus-python-{uuid.uuid4()}"
    remembered = await agent.call_run_operation("store", key, "x")
    assert json.loads(remembered)["data"] == f"Remembered: {key}", remembered
    task_id, success, result = await asyncio.wait_for(completed.get(), 10)
    assert success is True and result == remembered, (success, result)
    assert json.loads(result)["metadata"]["task_id"] == task_id
    print("ok an older agent does a task and its signal tells the same result")

    task = {"type": "memory", "operation": "retrieve", "path": key}
    for interface in (agent, first):
        recalled = json.loads(await interface.call_execute(json.dumps(task)))
        assert recalled["success"] is True, recalled
        assert recalled["metadata"]["response"]["value"] == "x", recalled
    # It is told to be busy until a moment after its last call.
    said = [await first.call_get_status(), await agent.call_status()]
    assert all(status in {"Memory is running", "Memory is busy"} for status in said), said
    assert await agent.call_ping() is True
    assert "recall" in await agent.call_operations()
    gone = json.loads(await agent.call_run_operation("recall", f"gone-{key}", ""))
    assert gone["success"] is False and gone["metadata"]["reason"] == "NOT_FOUND", gone
    for wrong in ("{", json.dumps({"type": "memory", "operation": "dance"})):
        try:
            await agent.call_execute(wrong)
        except DBusError as error:
            assert error.type == "org.freedesktop.DBus.Error.InvalidArgs", error.type
        else:
            raise AssertionError(f"{wrong} was not refused")
    await agent.call_run_operation("forget", key, "")
    print("ok both generations' methods answer, and say what failed")


async def states(client: Client) -> None:
    """The state of an agent as its property, and as the proxy's PropertiesChanged when it works."""
    proxy = client.bus.get_proxy_object(NAME, MEMORY, await client.bus.introspect(NAME, MEMORY))
    changes: asyncio.Queue[dict[str, Variant]] = asyncio.Queue()

    def changed(interface: str, changed: dict[str, Variant], invalidated: list[str]) -> None:
        assert interface == "org.opdbus.Agent1" and not invalidated, (interface, invalidated)
        changes.put_nowait(changed)

    properties = proxy.get_interface(PROPERTIES)
    properties.on_properties_changed(changed)
    agent, typed = proxy.get_interface("org.opdbus.Agent1"), proxy.get_interface("org.opdbus.Memory1")
    # The handler is registered on the bus behind a call of dbus-fast's own.
    await client.call(MEMORY, "org.freedesktop.DBus.Peer", "Ping")
    seen: list[str] = []
    while not {"running", "busy"} <= set(seen):
        await typed.call_list({})
        try:
            told = await asyncio.wait_for(changes.get(), 0.1)
        except TimeoutError:
            continue
        assert {name: value.signature for name, value in told.items()} == {
            "State": "s",
            "StateReason": "s",
        }, told
        assert told["StateReason"].value == "", told
        seen.append(told["State"].value)
    properties.off_properties_changed(changed)
    assert await agent.get_state() in ("running", "busy")
    print("ok PropertiesChanged tells that an agent is busy and then running")


async def sessions(client: Client) -> None:
    """A session started, seen as an object, used, and ended."""
    name = f"dbus-python-{uuid.uuid4().hex}"
    options = {"session_id": Variant("s", name), "metadata": Variant("a{ss}", {"colour": "blue"})}
    manager = (ROOT, "org.opdbus.Sessions1")
    reply = await client.call(*manager, "StartSession", "sa{sv}", "dbus-python", options)
    path = reply.body[0]["object_path"].value
    node = await client.bus.introspect(NAME, path)
    proxy = client.bus.get_proxy_object(NAME, path, node).get_interface("org.opdbus.Session1")
    assert await proxy.get_id() == name and await proxy.get_held() is True
    assert await proxy.get_metadata() == {"colour": "blue"}
    expires, _extra = await proxy.call_keep_alive({})
    assert expires == 0, "what holds a session lets it not run out"
    with Signals(client, path) as signals:
        inside = {"session-id": Variant("s", name)}
        await client.call(MEMORY, "org.opdbus.Memory1", "List", "a{sv}", inside)
        told = await signals.next()
        assert told.member == "PropertiesChanged", told
        assert told.body[1]["Agents"].value == ["memory"], told.body
        await proxy.call_end({})
        told = await signals.next()
        assert (told.member, told.body) == ("Ended", ["asked"]), told
    get = (path, PROPERTIES, "Get", "ss", "org.opdbus.Session1")
    await client.refused("org.freedesktop.DBus.Error.UnknownObject", path, *get, "Held")
    list_in = (MEMORY, "org.opdbus.Memory1", "List", "a{sv}", inside)
    await client.refused("org.opdbus.Error.NotFound", name, *list_in)
    print("ok a session is an object until it is ended, and tells its changes and its end")


async def what_is_not_there(client: Client) -> None:
    error = "org.freedesktop.DBus.Error"
    memory = "org.opdbus.Memory1"
    await client.refused(f"{error}.UnknownMethod", "Sing", MEMORY, memory, "Sing", "")
    nothing = "org.opdbus.Nothing1"
    await client.refused(f"{error}.UnknownInterface", nothing, MEMORY, nothing, "Recall", "")
    path = f"{ROOT}/agent/nobody"
    await client.refused(f"{error}.UnknownObject", path, path, memory, "Recall", "")
    get = (MEMORY, PROPERTIES, "Get", "ss", "org.opdbus.Agent1")
    await client.refused(f"{error}.UnknownProperty", "Colour", *get, "Colour")
    unknown = (ROOT, "org.opdbus.Agents1", "CallJson", "sssa{sv}", "nobody", "Sing", "{}", {})
    await client.refused("org.opdbus.Error.UnknownAgent", "nobody", *unknown)


async def manager(client: Client) -> None:
    payload = bytes(range(256)) * 16
    reply = await client.call(ROOT, "org.opdbus.Agents1", "Ping", "aya{sv}", payload, {})
    assert reply.body[0] == payload
    reply = await client.call(ROOT, "org.opdbus.Agents1", "ListAgents", "a{sv}", {})
    agents = {agent["id"].value: agent for agent in reply.body[0]}
    assert agents["memory"]["object_path"].value == MEMORY, agents
    await client.call(MEMORY, "org.freedesktop.DBus.Peer", "Ping")
    print("ok the manager answers Ping and ListAgents")


async def contexts_and_chains(client: Client) -> None:
    """The main job of the context manager and of sequential thinking, through proxies."""

    async def proxy(agent: str, interface: str):
        path = f"{ROOT}/agent/{agent}"
        node = await client.bus.introspect(NAME, path)
        return client.bus.get_proxy_object(NAME, path, node).get_interface(interface)

    contexts = await proxy("context_manager", "org.opdbus.ContextManager1")
    name = f"dbus-python-{uuid.uuid4()}"
    items = Variant("aa{sv}", [{"text": Variant("s", "Grüße"), "role": Variant("s", "ROLE_USER")}])
    version, created, tokens, extra = await contexts.call_save(name, {"items": items})
    assert version > 0 and created is True and tokens > 4, (version, created, tokens, extra)
    loaded_version, loaded, _extra = await contexts.call_load(name, {})
    assert loaded_version == version, (loaded_version, version)
    assert loaded[0]["text"].value == "Grüße", loaded
    print("ok Save and Load through the proxy give back the context")
    path = f"{ROOT}/agent/context_manager"
    scope = {"scope": Variant("s", "SCOPE_SESSION")}
    call = (path, "org.opdbus.ContextManager1", "Load", "sa{sv}", name, scope)
    await client.refused("org.opdbus.Error.InvalidArgument", "session-id", *call)
    await contexts.call_delete(name, {"permanent": Variant("b", True)})

    chains = await proxy("sequential_thinking", "org.opdbus.SequentialThinking1")
    chain, _extra = await chains.call_start_chain("Why?", {})
    hypothesis = {"kind": Variant("s", "STEP_KIND_HYPOTHESIS")}
    step, _extra = await chains.call_think(chain, "Perhaps.", hypothesis)
    assert step == 1, step
    path = f"{ROOT}/agent/sequential_thinking"
    call = (path, "org.opdbus.SequentialThinking1", "Conclude", "sa{sv}", chain, {})
    await client.refused("org.opdbus.Error.Conflict", "force", *call)
    conclusion, _extra = await chains.call_conclude(chain, {"force": Variant("b", True)})
    assert conclusion == "Perhaps.", conclusion
    print("ok a chain of thought through the proxy is concluded when forced")


async def main() -> None:
    bus = await MessageBus(
        bus_address=os.environ["OPDBUS_BUS"], negotiate_unix_fd=True
    ).connect()
    client = Client(bus)
    nodes = await every_object(client)
    await properties(client, nodes)
    await managed_objects(client, nodes)
    await manager(client)
    await memory(client)
    await contexts_and_chains(client)
    await tasks(client)
    await older(client)
    await states(client)
    await sessions(client)
    await what_is_not_there(client)
    bus.disconnect()


asyncio.run(asyncio.wait_for(main(), timeout=60))
