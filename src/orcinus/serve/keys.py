"""API keys: who may call, and who may steer the scheduler."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orcinus.errors import ConfigError
from orcinus.serve.errors import ApiError

log = logging.getLogger(__name__)
MOST_BYTES = 2**20  # of a file of keys
LOOK_EVERY_S = 1.0  # at files with keys
KEY_VARIABLES = USER_KEYS, ADMIN_KEYS = "ORCINUS_API_KEY", "ORCINUS_ADMIN_KEY"
CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a key.

    `name` is the beginning of the key's digest: it tells keys apart and reveals none.
    """

    name: str
    admin: bool


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Keys:
    """The keys of a server, kept as SHA-256 digests.

    Without keys, all clients may do everything.
    """

    def __init__(self, keys: Iterable[str] = (), admin_keys: Iterable[str] = ()) -> None:
        self._digests: list[tuple[bytes, bool]] = []
        self.replace(keys, admin_keys)

    def replace(self, keys: Iterable[str], admin_keys: Iterable[str]) -> None:
        """Replace all keys.

        Raises `ConfigError`, and keeps the old keys, if one cannot be used.
        """
        self._digests = [(_digest(_usable(key)), False) for key in keys] + [(_digest(_usable(key)), True) for key in admin_keys]

    def __len__(self) -> int:
        return len(self._digests)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holder(self, authorization: Sequence[bytes], x_api_key: Sequence[bytes] = ()) -> Holder | None:
        """The holder of the key in these Authorization and X-API-Key headers.

        None if the server has no keys. Raises `ApiError` 401, also for two different keys. All digests are compared, in
        constant time, so that the time reveals nothing about a key.
        """
        if not self._digests:
            return None
        sent = {_digest(key) for key in _sent(authorization, x_api_key)}
        if not sent:
            message = "send an API key: Authorization: Bearer KEY, or X-API-Key: KEY"
            raise ApiError(401, message, code="missing_api_key", headers=CHALLENGE)
        if len(sent) > 1:
            message = "Authorization and X-API-Key have different keys: send one of them"
            raise ApiError(401, message, code="invalid_api_key", headers=CHALLENGE)
        found = self._find(*sent)
        if found is None:
            raise ApiError(401, "this API key is not known here", code="invalid_api_key", headers=CHALLENGE)
        return found

    def _find(self, sent: bytes) -> Holder | None:
        found = None
        for digest, admin in self._digests:
            if hmac.compare_digest(digest, sent):
                found = Holder(digest.hex()[:12], admin or (found is not None and found.admin))
        return found


def _sent(authorization: Sequence[bytes], x_api_key: Sequence[bytes]) -> list[bytes]:
    """The keys that a request sends; an empty one counts as none.

    Raises `ApiError` 401 for a header that comes twice.
    """
    for name, values in (("Authorization", authorization), ("X-API-Key", x_api_key)):
        if len(values) > 1:
            raise ApiError(401, f"send one {name} header, not several", code="invalid_api_key", headers=CHALLENGE)
    scheme, _, key = authorization[0].partition(b" ") if authorization else (b"", b"", b"")
    sent = [key.strip()] if scheme.lower() == b"bearer" else []
    return [key for key in (*sent, *(one.strip() for one in x_api_key)) if key]


def _is_usable(key: str) -> bool:
    return bool(key) and key.isascii() and key.isprintable() and " " not in key


def _usable(key: str) -> bytes:
    if not _is_usable(key):
        raise ConfigError("an API key must be printable ASCII without spaces, and not empty")
    return key.encode()


@dataclass
class KeySources:
    """The sources of API keys: options, environment and files.

    Files are read again when they change.
    """

    api_key: str | None = None  # several with commas
    api_key_file: Path | None = None
    admin_key_file: Path | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def __post_init__(self) -> None:
        self._seen = self._state()
        self.keys = Keys(*self._read())

    @property
    def files(self) -> list[Path]:
        """Key files that can change while the server runs."""
        return [file for file in (self.api_key_file, self.admin_key_file) if file is not None]

    def refresh(self, *, changed: bool = False) -> None:
        """Read the files again if they changed, or if `changed`.

        If keys cannot be read, the log says so, and the old keys stay valid.
        """
        state = self._state()
        if not changed and state == self._seen:
            return
        self._seen = state
        for file in self.files:
            if file.exists() and not file.is_file():  # a pipe would block, and gives its keys only once
                log.warning("the API keys stay as they were: %s is not a regular file", file)
                return
        try:
            self.keys.replace(*self._read())
        except ConfigError as error:
            log.warning("the API keys stay as they were: %s", error)
        else:
            log.warning("API keys were read again: %d are known", len(self.keys))

    async def watch(self) -> None:
        """Refresh repeatedly, if there are files."""
        while self.files:
            await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def _read(self) -> tuple[list[str], list[str]]:
        """Keys of users and of admins. Raises `ConfigError`."""
        users = _listed(self.api_key) + _listed(self.environment.get(USER_KEYS))
        users += read_keys(self.api_key_file) if self.api_key_file else []
        admins = _listed(self.environment.get(ADMIN_KEYS))
        return users, admins + (read_keys(self.admin_key_file) if self.admin_key_file else [])

    def _state(self) -> list[tuple[int, int, int] | None]:
        """A file's identity and change time; None without a file."""

        def of(file: Path) -> tuple[int, int, int] | None:
            try:
                status = file.stat()
            except OSError:
                return None
            return status.st_mtime_ns, status.st_size, status.st_ino

        return [of(file) for file in self.files]


def _listed(keys: str | None) -> list[str]:
    return [key.strip() for key in keys.split(",")] if keys else []


def read_keys(path: Path) -> list[str]:
    """The keys in a file: one a line. Raises `ConfigError`.

    Blank lines and comments, which begin with #, do not count.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        lines = raw.decode("utf-8-sig").splitlines()  # some editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot read the keys in {path}: {reason}") from None
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{path} is not a file of keys: it is larger than {MOST_BYTES // 2**20} MiB")
    keys = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#"}
    if not keys:
        raise ConfigError(f"{path} holds no key: write one per line")
    for number, key in keys.items():
        if not _is_usable(key):
            raise ConfigError(f"line {number} of {path} is not a key: a key is printable ASCII without spaces")
    return list(keys.values())
