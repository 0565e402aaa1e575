"""A server to measure, and the requests that it gets."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from orcinus.errors import ConfigError
from orcinus.server_address import PORTS, authorization, server_url

PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, slots=True)
class Target:
    """A server of the OpenAI API, its model, and its requests' kind.

    `prompts` are token ids or text. Servers take ids only for completions; ids make lengths exact, lengths of text are
    calibrated. None: ids for completions, text for chats. `extra` are further fields of every body, and override ours.
    Raises `ConfigError` for an invalid URL and for chats of ids.
    """

    url: str  # http://127.0.0.1:8000, with or without /v1
    model: str = ""
    api: Literal["completions", "chat"] = "completions"
    key: str | None = field(default=None, repr=False)
    prompts: Literal["ids", "text"] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.api not in PATHS:
            raise ConfigError(f"the API is one of {', '.join(PATHS)}, not {self.api!r}")
        if self.prompts not in (None, "ids", "text"):
            raise ConfigError(f"prompts are ids or text, not {self.prompts!r}")
        if self.api == "chat" and self.prompts == "ids":
            raise ConfigError("chats take no token ids: ask for prompts of text, or for completions")
        server_url(self.url)
        authorization(self.key)

    @property
    def place(self) -> SplitResult:
        """The parts of the URL, without `/v1`."""
        return urlsplit(server_url(self.url))

    @property
    def host(self) -> str:
        """The server's name or address."""
        return self.place.hostname or ""

    @property
    def port(self) -> int:
        """The URL's port, or the scheme's default."""
        return self.place.port or PORTS[self.place.scheme]

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For https, a context with the system's certificates; else None."""
        return ssl.create_default_context() if self.place.scheme == "https" else None

    @property
    def text(self) -> bool:
        """Whether prompts are text."""
        return self.prompts == "text" or self.api == "chat"

    @property
    def path(self) -> str:
        """The path of requests."""
        return PATHS[self.api]

    def head(self, method: str, path: str) -> bytes:
        """The head of a request. `path` begins with /v1."""
        place = self.place
        fields = {"Host": place.netloc, "Accept": "*/*", "User-Agent": "orcinus-bench", **authorization(self.key)}
        lines = [f"{method} {place.path}{path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return "".join(f"{line}\r\n" for line in lines).encode()


def with_body(head: bytes, body: bytes) -> bytes:
    """The bytes of a request that carries JSON."""
    return b"%scontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (head, len(body), body)


# Optional fields of a body, the most valuable first.
OPTIONAL = ("include_usage", "continuous_usage_stats", "return_token_ids", "ignore_eos", "min_tokens")
OF_STREAM = {"include_usage", "continuous_usage_stats"}  # within stream_options


@dataclass(frozen=True, slots=True)
class Dialect:
    """The optional fields that a server accepts; others are not sent."""

    fields: frozenset[str] = frozenset(OPTIONAL)

    @property
    def unused(self) -> tuple[str, ...]:
        """The fields that the server refused."""
        return tuple(name for name in OPTIONAL if name not in self.fields)

    def body(self, target: Target, prompt: str | tuple[int, ...], tokens: int, *, exact: bool) -> dict[str, object]:
        """A streaming request for exactly, or at most, `tokens` output tokens."""
        asked: dict[str, object] = {"prompt": prompt}
        if target.api == "chat":
            asked = {"messages": [{"role": "user", "content": prompt}]}
        options = {name: True for name in OPTIONAL if name in self.fields & OF_STREAM}
        lengths = {"ignore_eos": True, "min_tokens": tokens} if exact else {}
        found = {
            "model": target.model,
            **asked,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            **({"stream_options": options} if options else {}),
            **({"return_token_ids": True} if "return_token_ids" in self.fields else {}),
            **{name: value for name, value in lengths.items() if name in self.fields},
        }
        return found | dict(target.extra)
