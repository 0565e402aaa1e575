"""https, with a certificate that the system trusts or does not."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from orcinus.bench.client.bodies import Form
from orcinus.bench.client.load_generator import LoadGenerator, execute
from orcinus.bench.client.target import Target
from orcinus.bench.record import RequestOutcome, RequestRecord
from tests.bench.client.fake import Fake, Request, workload

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")


def certificate(folder: Path) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize("trusted", [True, False])
def test_https(trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def answer(request: Request) -> None:
        await request.tokens(3)

    async def test() -> list[RequestRecord]:
        server = Fake(answer)
        listening = await asyncio.start_server(server.connected, "127.0.0.1", 0, ssl=context)
        server.port = listening.sockets[0].getsockname()[1]
        form = Form(Target(f"https://127.0.0.1:{server.port}", "m"))
        found = (await LoadGenerator(form, workload("closed:clients=1", 3), timeout=5).run()).requests
        listening.close()
        await asyncio.sleep(0.05)
        return list(found)

    records = execute(asyncio.wait_for(test(), 30))
    if trusted:
        assert [one.outcome for one in records] == [RequestOutcome.OK] * 3
    else:
        assert [one.outcome for one in records] == [RequestOutcome.RESET] * 3
        assert "certificate" in records[0].error
