"""The address of a server and the key for it, as users give them to a command."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orcinus.errors import ConfigError
from orcinus.server_address import KEYS, authorization, server_url
from tests.commands import orcinus

WRONG = ["", "localhost:8000", "127.0.0.1:8000", "::nonsense::", "ftp://somewhere", "http://", "http://x:99999", "http://x y"]
ASKING = {
    "chat": ("chat", "--url"),
    "conformance": ("conformance", "--url"),
    "batch": ("batch", "in.jsonl", "out.jsonl", "--url"),
    "bench": ("bench", "serve", "--url"),
    "top": ("top",),
}


@pytest.mark.parametrize("written", ["http://x:1", "http://x:1/", "http://x:1/v1", "http://x:1/v1/"])
def test_the_version_may_be_written_or_not(written: str) -> None:
    assert server_url(written) == "http://x:1"


@pytest.mark.parametrize("text", [*WRONG, "http://a@x", "http://x/?a=1", "http://x/#a", "http://[", "http://é"])
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(ConfigError, match="is no URL of a server: give one like http://127.0.0.1:8000"):
        server_url(text)


def test_a_key_is_a_header() -> None:
    assert authorization("secret") == {"Authorization": "Bearer secret"}
    assert authorization(None) == authorization("") == {}
    with pytest.raises(ConfigError, match="no header may have") as raised:
        authorization("schlüssel")
    assert "schlüssel" not in str(raised.value)


@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("localhost:8000", "k", "'localhost:8000' is no URL of a server: give one like http://127.0.0.1:8000"),
        ("http://127.0.0.1:1", "schlüssel", "the API key has characters that no header may have"),
    ],
)
def test_every_command_says_it_alike(
    command: str, url: str, key: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("{}\n", encoding="utf-8")
    done = orcinus(*ASKING[command], url, "--api-key", key, stdin="Hi\n")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")


@pytest.mark.parametrize(("names", "key"), [(KEYS[:1], "ours"), (KEYS[1:], "theirs"), (KEYS, "ours"), ([], None)])
@pytest.mark.parametrize("command", ["chat", "conformance", "bench"])
def test_a_key_may_come_from_the_environment(
    command: str, names: list[str], key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(KEYS, ("ours", "theirs"), strict=True):
        monkeypatch.setenv(name, value) if name in names else monkeypatch.delenv(name, raising=False)
    seen = set()

    class Recording(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.add(self.headers["Authorization"])
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Recording) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(server.serve_forever)
        done = orcinus(*ASKING[command], f"http://127.0.0.1:{server.server_port}", stdin="Hi\n")
        server.shutdown()
    assert done.returncode == 1
    assert seen == {key and f"Bearer {key}"}
