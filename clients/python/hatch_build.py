"""Generates what the wheel has beside its sources: protobuf modules and a typed client of each agent.

Both come from the contract in `proto/`, which lies two folders up in the repository and beside this file in
an sdist. The modules go below `op_dbus.proto`, so that nothing else is put into the user's packages.
"""

from __future__ import annotations

import importlib
import keyword
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WITHIN = "op_dbus.proto"

#: Where protoc describes the contract with its comments.
DESCRIBED = "described.binpb"

#: What protoc's own stubs are not strict about.
LENIENT = '# mypy: disable-error-code="import-untyped,misc,no-untyped-def,type-arg"\n'


class GenerateHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds generated modules to a wheel; they are written to a folder of their own."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates before the wheel is put together."""
        self._folder = tempfile.TemporaryDirectory(prefix="op-dbus-build-")
        out = Path(self._folder.name)
        for path, text in generate(protos(Path(self.root)), out / "raw").items():
            target = out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            build_data["force_include"][str(target)] = f"op_dbus/{path}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the folder."""
        self._folder.cleanup()


def protos(root: Path) -> Path:
    """The folder of the contract."""
    for folder in (root / "proto", root.parent.parent / "proto"):
        if (folder / "opdbus/v1/options.proto").is_file():
            return folder
    raise FileNotFoundError(f"there is no contract beside or above {root}")


def generate(contract: Path, raw: Path) -> dict[str, str]:
    """Generates all modules; gives each by its path within the package."""
    files = sorted(
        str(path.relative_to(contract))
        for folder in ("compat/op_chat", "opdbus/agent", "opdbus/v1")
        for path in (contract / folder).rglob("*.proto")
    )
    compile_protos(contract, raw, files)
    modules: dict[str, str] = {}
    for path in sorted(raw.rglob("*.py*")):
        relative = path.relative_to(raw)
        if relative.suffix in (".py", ".pyi"):
            text = moved(path.read_text(encoding="utf-8"))
            modules[f"proto/{relative}"] = LENIENT + text if relative.suffix == ".pyi" else text
            for folder in relative.parents:
                modules[f"proto/{folder}/__init__.py".replace("/./", "/")] = (
                    '"""Generated from the contract."""\n'
                )
    sys.path.insert(0, str(raw))
    try:
        said = comments(raw)
        agents = [client for file in files for client in clients(file, said)]
    finally:
        sys.path.remove(str(raw))
    modules |= {f"agents/{name}.py": text for name, text in agents}
    modules["agents/__init__.py"] = '"""A typed client of each agent, generated from the contract."""\n'
    listed = ",\n".join(f'    "{WITHIN}.{module_of(file)}"' for file in files)
    modules["proto/files.py"] = (
        f'"""The modules of the contract, generated with them."""\n\nMODULES = (\n{listed},\n)\n'
    )
    return modules


def compile_protos(contract: Path, raw: Path, files: list[str]) -> None:
    """Runs protoc, which comes with grpcio-tools."""
    import grpc_tools
    from grpc_tools import protoc

    raw.mkdir(parents=True)
    known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{contract}", f"-I{known}", f"--python_out={raw}", f"--pyi_out={raw}"]
    described = ["--include_source_info", f"--descriptor_set_out={raw / DESCRIBED}"]
    if protoc.main([*arguments, *described, *files]) != 0:
        raise RuntimeError("protoc refused the contract")


def comments(raw: Path) -> dict[str, str]:
    """What the contract says of each operation, by its full name."""
    from google.protobuf import descriptor_pb2

    found = {}
    described = descriptor_pb2.FileDescriptorSet.FromString((raw / DESCRIBED).read_bytes())
    for file in described.file:
        for location in file.source_code_info.location:
            # The path of an rpc: field 6 of the file, a service, field 2 of it.
            if len(location.path) == 4 and (location.path[0], location.path[2]) == (6, 2):
                service = file.service[location.path[1]]
                name = f"{file.package}.{service.name}.{service.method[location.path[3]].name}"
                found[name] = location.leading_comments.strip()
    return found


def module_of(file: str) -> str:
    """The module of a `.proto` file."""
    return file.removesuffix(".proto").replace("/", ".") + "_pb2"


def moved(text: str) -> str:
    """A generated module that finds the others below `op_dbus.proto`."""
    return re.sub(r"^(from|import) opdbus\.", rf"\1 {WITHIN}.opdbus.", text, flags=re.MULTILINE)


def clients(file: str, said: dict[str, str]) -> list[tuple[str, str]]:
    """The typed client of each agent that a file describes."""
    module = importlib.import_module(module_of(file))
    options: Any = importlib.import_module("opdbus.v1.options_pb2")
    found = []
    for service in module.DESCRIPTOR.services_by_name.values():
        if service.GetOptions().HasExtension(options.agent):
            agent = service.GetOptions().Extensions[options.agent]
            found.append((agent.id, client_module(agent.id, service, module_of(file), said)))
    return found


def snake(name: str) -> str:
    """`BulkRecall` as `bulk_recall`, and `Import`, a word of Python, as `import_`."""
    text = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return f"{text}_" if keyword.iskeyword(text) else text


def client_module(agent: str, service: Any, module: str, said: dict[str, str]) -> str:
    """A module with the client of one agent, awaited and blocking, and the messages of its contract."""
    pascal = "".join(part.capitalize() for part in agent.split("_"))
    file = service.file
    enums = file.enum_types_by_name
    values = [name for enum in enums.values() for name in enum.values_by_name]
    names = sorted([*file.message_types_by_name, *enums, *values])
    foreign = foreign_modules(service)
    lines = [
        f'"""Typed calls of the agent `{agent}`, and the messages of its contract. Generated."""',
        "",
        "from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator",
        "",
        "from google.protobuf import empty_pb2",
        "",
        "from op_dbus.agent import Agent",
        "from op_dbus.blocking import BlockingAgent",
        "from op_dbus.options import CallOptions",
        *[f"from {WITHIN}.{package} import {name}" for package, name in foreign],
        f"from {WITHIN}.{module} import (",
        *[f"    {name} as {name}," for name in names],
        ")",
    ]
    for blocking in (False, True):
        kind, base = ("Blocking", "BlockingAgent") if blocking else ("", "Agent")
        of = f"Calls the agent `{agent}`" + (" and waits for each answer." if blocking else ".")
        lines += ["", "", f"class {kind}{pascal}Client({base}):", f'    """{of}"""', ""]
        lines += [f'    AGENT = "{agent}"']
        for method in service.methods:
            lines += operation(method, said.get(method.full_name, ""), blocking)
    return "\n".join(lines) + "\n"


def foreign_modules(service: Any) -> list[tuple[str, str]]:
    """The modules of messages that a service takes from other files of the contract."""
    files = {m.file.name for method in service.methods for m in (method.input_type, method.output_type)}
    others = sorted(f for f in files if f != service.file.name and not f.startswith("google/"))
    return [tuple(module_of(name).rsplit(".", 1)) for name in others]  # type: ignore[misc]


def operation(method: Any, said: str, blocking: bool) -> list[str]:
    """One operation as a method."""

    file = method.containing_service.file

    def named(message: Any) -> str:
        if message.file.name == file.name:
            return str(message.name)
        return f"{module_of(message.file.name).rsplit('.', 1)[1]}.{message.name}"

    request, response = named(method.input_type), named(method.output_type)
    many, flow = ("Iterable", "Iterator") if blocking else ("AsyncIterable", "AsyncGenerator")
    argument = f"requests: {many}[{request}]" if method.client_streaming else f"request: {request}"
    given = argument.split(":")[0]
    result = f"{flow}[{response}]" if method.server_streaming else response
    awaited = not blocking and not method.server_streaming
    call = {
        (False, False): "_unary",
        (False, True): "_stream",
        (True, False): "_send",
        (True, True): "_exchange",
    }[method.client_streaming, method.server_streaming]
    return [
        "",
        f"    {'async ' if awaited else ''}def {snake(method.name)}(",
        f"        self, {argument}, options: CallOptions | None = None",
        f"    ) -> {result}:",
        *documented(said or f"`{method.full_name}`."),
        f"        return {'await ' if awaited else ''}self.{call}("
        f'"{method.name}", {given}, {response}, options)',
    ]


def documented(text: str) -> list[str]:
    """The lines of a method's docstring."""
    first, *rest = (line.strip() for line in text.replace("\\", "\\\\").splitlines())
    if not rest:
        return [f'        """{first}"""']
    return [f'        """{first}', *(f"        {line}".rstrip() for line in rest), '        """']
