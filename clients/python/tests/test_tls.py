"""TLS with a certificate, and tokens, against a daemon that listens for both."""

import socket
import subprocess
from pathlib import Path

import pytest
from service import BIN, Service

from op_dbus import (
    AccessDenied,
    AgentClient,
    Bus,
    Credentials,
    Settings,
    Unauthenticated,
    Unavailable,
    Unreachable,
)

TLS = """
[tls]
listen = "127.0.0.1:{port}"
certificate = "{folder}/server.pem"
key = "{folder}/server.key"
client_ca = "{folder}/ca.pem"
client_certificates = "optional"
[[tls.client]]
uri = "spiffe://example.org/ci/*"
user = "4712"
"""


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    authority = ("-x509", "-days", "2", "-subj", "/CN=authority")
    openssl(folder, "req", *new, *authority, "-keyout", "ca.key", "-out", "ca.pem")
    for name, alternative in [
        ("server", "DNS:localhost"),
        ("client", "URI:spiffe://example.org/ci/python"),
    ]:
        (folder / "names").write_text(f"subjectAltName={alternative}")
        asked = ("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(folder, "req", *new, *asked)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        out = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2")
        openssl(folder, "x509", "-req", *signed, *out)
        (folder / f"{name}.key").chmod(0o600)


@pytest.fixture
def secured(tmp_path: Path, bus: Bus):
    """A daemon with TLS and a token for reading, and its settings for a client with nothing."""
    certificates(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [BIN / "op-dbusctl", "token", "new", "python", "--user", "4711", "--risk", "read"]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    token = next(line for line in made.splitlines() if line.startswith("opdbus_"))
    (tmp_path / "token").write_text(token + "\n")
    more = TLS.format(port=port, folder=tmp_path) + made[made.index("[[grpc.token]]") :]
    service = Service(tmp_path, bus, more)
    service.start()
    yield service.settings.having(via="grpc", address=f"https://localhost:{port}", max_retries=0)
    service.kill()


async def test_a_certificate_or_a_token_says_who_calls(secured: Settings, tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    pair = str(tmp_path / "client.pem"), str(tmp_path / "client.key")
    by_certificate = Credentials.from_files(ca, *pair)
    async with AgentClient(secured.having(credentials=by_certificate)) as client:
        made = await client.call("memory", "Remember", {"key": "k", "value": 1})
        assert made["created"]
    by_token = Credentials.from_files(ca, token=str(tmp_path / "token"))
    async with AgentClient(secured.having(credentials=by_token)) as client:
        await client.call("memory", "List", {})
        with pytest.raises(AccessDenied):
            await client.call("memory", "Remember", {"key": "k", "value": 1})
    wrong = Credentials(ca=by_token.ca, token="opdbus_wrong")
    async with AgentClient(secured.having(credentials=wrong)) as client:
        with pytest.raises(Unauthenticated):
            await client.call("memory", "List", {})


async def test_a_server_that_is_another_is_not_called(secured: Settings, tmp_path: Path) -> None:
    other = tmp_path / "authority"
    other.mkdir()
    certificates(other)
    credentials = Credentials.from_files(str(other / "ca.pem"), token=str(tmp_path / "token"))
    async with AgentClient(secured.having(credentials=credentials)) as client:
        with pytest.raises((Unreachable, Unavailable)):
            await client.ping()
