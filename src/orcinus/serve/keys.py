"""API keys: who may call, and who may also steer the scheduler."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orcinus.errors import ConfigError
from orcinus.serve.errors import ApiError

CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Holder:
    """Whoever holds a key. `name` is the beginning of the key's digest: it tells keys apart and gives none away."""

    name: str
    admin: bool


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Keys:
    """The keys of a server, kept as SHA-256 digests. Without any, everybody may do everything."""

    def __init__(self, keys: Iterable[str] = (), admin_keys: Iterable[str] = ()) -> None:
        self._digests = [(_digest(_usable(key)), False) for key in keys]
        self._digests += [(_digest(_usable(key)), True) for key in admin_keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holder(self, authorization: Sequence[bytes]) -> Holder | None:
        """Who sends these Authorization headers; None if there are no keys. Raises `ApiError` 401.

        Digests are compared in constant time, and all of them, so that the time says nothing about a key.
        """
        if not self._digests:
            return None
        if len(authorization) > 1:
            raise ApiError(401, "send one Authorization header, not several", code="invalid_api_key", headers=CHALLENGE)
        scheme, _, key = authorization[0].partition(b" ") if authorization else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not key.strip():
            raise ApiError(401, "send an API key: Authorization: Bearer KEY", code="missing_api_key", headers=CHALLENGE)
        sent = _digest(key.strip())
        found = None
        for digest, admin in self._digests:
            if hmac.compare_digest(digest, sent):
                found = Holder(digest.hex()[:12], admin or (found is not None and found.admin))
        if found is None:
            raise ApiError(401, "this API key is not known here", code="invalid_api_key", headers=CHALLENGE)
        return found


def _usable(key: str) -> bytes:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("an API key must be printable ASCII without spaces, and not empty")
    return key.encode()


def read_keys(path: Path) -> list[str]:
    """One key per line; blank lines and lines that begin with # do not count. Raises `ConfigError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read the keys in {path}: {reason}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ConfigError(f"{path} holds no key: write one per line")
    return keys
