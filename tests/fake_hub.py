"""A Hugging Face hub on 127.0.0.1, with the parts of its API that `huggingface_hub` asks for models.

Files come from memory, with ranges, entity tags and the headers that name a commit. A repository may be private or gated, and a
file's transfer may break off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_valid"
API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?")
FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """Commits with their files, and the branches and tags that point to them."""

    commits: Mapping[str, Mapping[str, bytes]]
    refs: Mapping[str, str]
    private: bool = False
    gated: bool = False


@dataclass
class Hub:
    """Repositories by name, how the hub behaves, and what it was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    broken_off: dict[str, int] = field(default_factory=dict)  # how often the transfer of a file still breaks off half-way
    status: int = 200  # of every answer; 200 = as it should be
    url: str = ""
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, range
    gone: bool = False  # whether connections are closed without an answer
    silent: bool = False  # whether they stay open without one
    stalls: set[str] = field(default_factory=set)  # files whose transfer stops half-way, with the connection open
    stalled: Event = field(default_factory=Event)
    ended: Event = field(default_factory=Event)  # which ends silent and stalled connections

    def sent(self) -> set[str]:
        """The files that were asked for, whole or the rest of them."""
        whole = [path for method, path, part in self.asked if method == "GET" and (not part or part.endswith("-"))]
        return {match[3] for path in whole if (match := FILE.fullmatch(path))}


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder, as a commit holds them."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve a hub for the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def use(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process ask a hub, with a cache and a file for a token in a folder."""
    settings = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_HUB_OFFLINE": False,
    }
    for name, value in settings.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setattr("orcinus.runtime.hub_probe._answered", float("-inf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does, errors by its codes."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: requests are in `asked`."""

    def _answer(self) -> None:
        if self.hub.gone or (self.hub.silent and self.hub.ended.wait()):
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        listing, file = API.fullmatch(path), FILE.fullmatch(path)
        match = listing or file
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        repository = self.hub.repositories.get(match[1]) if match else None
        revision = (listing[3] if listing else file[2] if file else None) or "main"
        commit = repository.refs.get(revision, revision) if repository else ""
        if self.hub.status != 200:
            self._refuse(self.hub.status)
        elif token not in ("", TOKEN):
            self._refuse(401, message="Invalid credentials in Authorization header")
        elif repository is None or (repository.private and not token):
            self._refuse(404 if token else 401, "RepoNotFound" if token else "")
        elif commit not in repository.commits:
            self._refuse(404, "RevisionNotFound")
        elif listing:
            self._send_json(self._listing(commit, repository.commits[commit], tree=listing[2] == "tree"))
        elif repository.gated:
            self._refuse(403 if token else 401, "GatedRepo")
        elif file:
            self._send_file(commit, repository.commits[commit], file[3])

    def _listing(self, commit: str, files: Mapping[str, bytes], *, tree: bool) -> Any:
        if not tree:
            return {"id": "x/y", "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        return [
            {"type": "file", "path": name, "size": len(data), "oid": sha256(data).hexdigest()[:40]}
            for name, data in files.items()
        ]

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_file(self, commit: str, files: Mapping[str, bytes], name: str) -> None:
        headers = {"X-Repo-Commit": commit}
        data = files.get(name)
        if data is None:
            self._refuse(404, "EntryNotFound", headers=headers)
            return
        headers |= {"ETag": f'"{sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        first, last, status = 0, len(data) - 1, 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last, status = int(match[1]), min(int(match[2] or last), last), 206
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        part = data[first : last + 1]
        cut = self.command == "GET" and last == len(data) - 1 and self.hub.broken_off.get(name, 0) > 0
        if cut:
            self.hub.broken_off[name] -= 1
        stalls = self.command == "GET" and name in self.hub.stalls and last == len(data) - 1
        self._send(status, part, headers, sent=len(part) // 2 if cut or stalls else None)
        if stalls:
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.ended.wait()

    def _refuse(self, status: int, code: str = "", message: str = "", headers: Mapping[str, str] | None = None) -> None:
        said = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, b"", {**(headers or {}), **{name: value for name, value in said.items() if value}})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
        if sent is not None:
            self.close_connection = True
