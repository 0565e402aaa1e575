"""A private, short-lived folder for the sockets between processes of one machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orcinus.errors import ConfigError

PREFIX = "orcinus-"
SOCKET, LOCK = "engine", "lock"  # the socket between a server's two processes
RENDEZVOUS = "rendezvous"  # a file in which ranks find each other
RANKS = ("batches", "results", "reports", RENDEZVOUS)  # and the sockets between them and their engine
COMPUTING = "computing"  # a file: the requests that the engine computes
OWN = {SOCKET, LOCK, COMPUTING, *RANKS}
LONGEST_PATH = 100  # bytes: the kernel takes 107 on Linux, 103 on macOS
UNLOCKED_S = 60.0  # an older folder without a lock has nothing to wait for


class SocketFolder:
    """A fresh folder, locked while this process lives.

    Raises `ConfigError` if none can be made.
    """

    def __init__(self) -> None:
        self.path, self._lock = _make()
        self.address = self.socket(SOCKET)

    def socket(self, name: str) -> str:
        """The address of a socket of this name."""
        return f"ipc://{self.path / name}"

    @property
    def computing(self) -> Path:
        """The file that says which requests the engine computes."""
        return self.path / COMPUTING

    @property
    def rendezvous(self) -> Path:
        """The file by which the ranks of a mesh find each other."""
        return self.path / RENDEZVOUS

    def remove(self) -> None:
        """Remove the folder; a second call does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)
        self._lock = -1


def _make() -> tuple[Path, int]:
    problems = []
    for place in dict.fromkeys(_places()):
        remove_leftovers(place)
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            if len(os.fsencode(path / max(OWN, key=len))) > LONGEST_PATH:
                path.rmdir()
                raise OSError(f"{place} is too long for the path of a socket")
            return path, _locked(path / LOCK)
        except OSError as error:
            problems.append(f"{place}: {error.strerror or error}")
    tried = "; ".join(problems) or "there is none"
    raise ConfigError(f"no folder for the sockets between processes ({tried}): set TMPDIR to a folder to write in")


def _places() -> Iterator[Path]:
    """Candidate folders: temporary, login's or service manager's, shared memory."""
    with suppress(OSError):
        yield Path(tempfile.gettempdir())
    for variable in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        if given := os.environ.get(variable):
            yield Path(given.split(":")[0])
    yield from (Path("/tmp"), Path("/dev/shm"))


def _locked(file: Path) -> int:
    """The open file, locked. Raises `OSError` if another process holds it."""
    opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        raise
    return opened


def remove_leftovers(place: Path) -> None:
    """Remove folders that killed servers of this user left there.

    A folder that is locked, or may be about to be, stays.
    """
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _is_leftover(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_leftover(folder: Path) -> bool:
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or set(os.listdir(folder)) - OWN:
        return False
    if not (folder / LOCK).exists():
        return time.time() - status.st_mtime > UNLOCKED_S
    os.close(_locked(folder / LOCK))
    return True
