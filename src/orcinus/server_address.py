"""The address of a server and the key for it, as users give them to a command."""

from __future__ import annotations

from urllib.parse import urlsplit

from orcinus.errors import ConfigError, shown

PORTS = {"http": 80, "https": 443}
KEYS = ["ORCINUS_API_KEY", "OPENAI_API_KEY"]  # environment variables of a key that is not given; the first one counts


def server_url(text: str) -> str:
    """The URL before `/v1`, which a user may have written or not.

    Raises `ConfigError` if it is no URL of a server.
    """
    problem = ConfigError(f"{shown(text)} is no URL of a server: give one like http://127.0.0.1:8000")
    try:
        parts = urlsplit(text)
        _ = parts.port  # checked when it is read
    except ValueError:
        raise problem from None
    more = parts.query or parts.fragment or parts.username is not None
    if parts.scheme not in PORTS or not parts.hostname or more or not _plain(text) or " " in text:
        raise problem
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def authorization(key: str | None) -> dict[str, str]:
    """The header that carries an API key; none without a key.

    Raises `ConfigError` if no header may carry it.
    """
    if key is not None and not _plain(key):
        raise ConfigError("the API key has characters that no header may have")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _plain(text: str) -> bool:
    """Whether a text may stand in a header."""
    return text.isascii() and text.isprintable()
