"""Where settings come from, and that nothing which somebody meant is passed over."""

from pathlib import Path

import pytest

from op_dbus import Settings, SettingsError, Way
from op_dbus.settings import VARIABLES

FILE = """
[client]
address = "http://127.0.0.1:50051"
connect_timeout_ms = 5000
request_timeout_ms = 2500
max_retries = 7
pool_connections = false
[dbus]
bus = "session"
name = "org.example.Agents"
[agents]
on_demand = ["mem0"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "grpc.toml"
    path.write_text(FILE)
    return path


def load(file: Path, **variables: str) -> Settings:
    named = {f"OP_DBUS_{name}": value for name, value in variables.items()}
    return Settings.load({"OP_DBUS_CONFIG": str(file), "HOME": "/", **named})


def test_the_file_then_its_drop_ins_then_the_variables(file: Path) -> None:
    settings = load(file)
    assert str(settings.address) == "http://127.0.0.1:50051"
    assert (settings.connect_timeout, settings.request_timeout) == (5.0, 2.5)
    assert (settings.max_retries, settings.pool_connections) == (7, False)
    assert (settings.bus.text, settings.name) == ("session", "org.example.Agents")
    assert settings.via is None

    folder = file.with_name("grpc.toml.d")
    folder.mkdir()
    (folder / "10-mine.toml").write_text("[client]\nmax_retries = 8\n")
    (folder / ".10-mine.toml.swp").write_text("no TOML")
    assert load(file).max_retries == 8
    settings = load(file, MAX_RETRIES="9", VIA="legacy", ADDRESS="unix:/run/x", SESSION="s")
    assert (settings.max_retries, settings.via) == (9, Way.LEGACY)
    assert (settings.address.path, settings.session) == ("/run/x", "s")
    assert settings.having(via="grpc", address="/run/y").via is Way.GRPC


def test_the_socket_of_the_service_is_the_address_unless_another_is_named(tmp_path: Path) -> None:
    path = tmp_path / "grpc.toml"
    path.write_text('[grpc]\nunix = "/run/other.sock"\n')
    assert load(path).address.path == "/run/other.sock"


def test_what_is_wrong_is_named(file: Path, tmp_path: Path) -> None:
    for variables, place in [
        ({"VIA": "pigeon"}, "OP_DBUS_VIA: 'pigeon'"),
        ({"MAX_RETRIES": "101"}, "OP_DBUS_MAX_RETRIES: .*from 0 to 100"),
        ({"TIMEOUT_MS": "soon"}, "OP_DBUS_TIMEOUT_MS"),
        ({"ADDRESS": "ftp://x"}, "OP_DBUS_ADDRESS: 'ftp://x'"),
        ({"CLIENT_NAME": "op chat"}, "client_name"),
        ({"COLOUR": "red"}, "OP_DBUS_COLOUR: is not known; there are .*OP_DBUS_VIA"),
        ({"TOKEN_FILE": "/nowhere/token"}, "/nowhere/token"),
        ({"CERT": str(file)}, "a certificate needs its key"),
        ({"CONFIG": "/nowhere/grpc.toml"}, "/nowhere/grpc.toml: cannot be read"),
    ]:
        with pytest.raises(SettingsError, match=place):
            load(file, **variables)
    file.write_text("[client]\nmax_retires = 3\n")
    with pytest.raises(SettingsError, match=r"grpc.toml: client.max_retires: there is no such key"):
        load(file)
    file.write_text("[client]\nmax_retries = true\n")
    with pytest.raises(SettingsError, match=r"client.max_retries: must be a whole number"):
        load(file)


def test_a_token_stays_on_this_machine_and_out_of_texts(file: Path, tmp_path: Path) -> None:
    from op_dbus import AgentClient

    token = tmp_path / "token"
    token.write_text("opdbus_secret\n")
    settings = load(file, TOKEN_FILE=str(token), ADDRESS="http://192.0.2.1:50051")
    assert settings.credentials.token == "opdbus_secret"
    assert "secret" not in repr(settings)
    with pytest.raises(SettingsError, match="without TLS"):
        AgentClient(settings)
    with pytest.raises(SettingsError, match="root"):
        AgentClient(settings, address="https://192.0.2.1:50051")


def test_the_readme_has_every_variable() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    missing = [name for name in VARIABLES if f"`{name}`" not in readme]
    assert not missing
