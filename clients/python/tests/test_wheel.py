"""What is in the wheel, and that its types hold."""

import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel() -> zipfile.ZipFile:
    return zipfile.ZipFile(os.environ["OPDBUS_WHEEL"])


def test_it_has_what_it_needs_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    info = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
    tops = {name.split("/")[0] for name in names}
    assert tops == {"op_dbus", info}
    files = [*PACKAGE.glob("src/op_dbus/*.py"), PACKAGE / "src/op_dbus/py.typed"]
    own = {str(path.relative_to(PACKAGE / "src")) for path in files}
    assert own <= set(names), own - set(names)
    others = [name for name in names if name not in own and not name.startswith(info)]
    assert others and all(name.startswith(("op_dbus/proto/", "op_dbus/agents/")) for name in others)
    assert not [name for name in names if "test" in name or name.endswith((".so", ".pyc"))]
    assert "Root-Is-Purelib: true" in wheel.read(f"{info}/WHEEL").decode()
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    for licence in ("LICENSE-MIT", "LICENSE-APACHE"):
        text = (PACKAGE.parents[1] / licence).read_bytes()
        assert wheel.read(f"{info}/licenses/{licence}") == text
    needs = {need.split(">")[0].split(";")[0] for need in metadata.get_all("Requires-Dist")}
    assert {"grpcio", "dbus-fast", "protobuf"} <= needs


def test_every_agent_of_the_contract_has_a_client(wheel: zipfile.ZipFile) -> None:
    contract = PACKAGE.parents[1] / "proto/opdbus/agent"
    agents = [path.name for path in contract.iterdir()]
    assert agents
    for agent in agents:
        text = wheel.read(f"op_dbus/agents/{agent}.py").decode()
        proto = next((contract / agent).rglob("*.proto")).read_text()
        for line in proto.splitlines():
            if line.startswith("  rpc "):
                assert f'"{line.split()[1].split("(")[0]}", ' in text, line


@pytest.mark.parametrize("what", [["-p", "op_dbus"], [str(PACKAGE / "examples")]])
def test_the_types_hold(what: list[str], tmp_path: Path) -> None:
    cache = Path(os.environ["OPDBUS_WHEEL"]).parent / "mypy"
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, *what]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no issues found" in checked.stdout


def test_files_are_short_and_say_what_they_are_for() -> None:
    files = [*PACKAGE.glob("src/op_dbus/*.py"), *PACKAGE.glob("*.py"), *PACKAGE.glob("tests/*.py")]
    assert len(files) > 30
    for file in files:
        text = file.read_text()
        assert text.startswith('"""'), file
        assert len(text.splitlines()) <= 300, file
