"""The folder of sockets: where it can be, how long its path may be, and what is cleared away."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orcinus import socket_folder
from orcinus.errors import ConfigError
from orcinus.socket_folder import LOCK, RANKS, SOCKET, UNLOCKED_S, SocketFolder, remove_leftovers


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short path: pytest's own may be too long for a socket, and grows with the number of runs."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "gettempdir", lambda: folder)
        yield Path(folder)


def leftover(place: Path, name: str, *files: str, age: float = 2 * UNLOCKED_S) -> Path:
    """A folder as a killed server leaves it."""
    folder = place / name
    folder.mkdir()
    for file in files:
        (folder / file).touch()
    then = time.time() - age
    os.utime(folder, (then, then))
    return folder


def test_it_is_private_can_hold_a_socket_and_is_removed(temporary: Path) -> None:
    folder = SocketFolder()
    assert folder.path.parent == temporary
    assert folder.path.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(folder.address.removeprefix("ipc://"))
    folder.remove()
    folder.remove()
    assert list(temporary.iterdir()) == []


def test_folders_of_dead_servers_are_removed_at_the_next_start(temporary: Path) -> None:
    dead = [leftover(temporary, "orcinus-a", SOCKET, LOCK, *RANKS), leftover(temporary, "orcinus-b", LOCK, age=0)]
    dead += [leftover(temporary, "orcinus-c", SOCKET), leftover(temporary, "orcinus-d")]  # as those of older versions
    folder = SocketFolder()
    assert not any(one.exists() for one in dead)
    folder.remove()


def test_what_lives_or_is_of_others_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living = SocketFolder()
    stay = [
        living.path,
        leftover(temporary, "orcinus-young", age=1),  # perhaps its server is about to lock it
        leftover(temporary, "orcinus-cache-0", "launches.json"),
        leftover(temporary, "orcinus-results", SOCKET, LOCK, "notes.txt"),
        leftover(temporary, "another", SOCKET, LOCK),
    ]
    target = leftover(temporary, "target", SOCKET, LOCK)
    link = temporary / "orcinus-link"
    link.symlink_to(target)
    file = temporary / "orcinus-file"
    file.touch()
    remove_leftovers(temporary)
    assert all(one.exists() for one in [*stay, target, link, file])
    of_another = leftover(temporary, "orcinus-other", SOCKET, LOCK)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_leftovers(temporary)
    assert of_another.exists()
    living.remove()


def test_a_place_that_is_too_long_or_cannot_be_written_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    given = Path(tempfile.mkdtemp(dir="/tmp"))
    for place in (long, tmp_path / "nowhere", Path("/proc")):
        monkeypatch.setattr(tempfile, "gettempdir", lambda place=place: str(place))
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(given))
        folder = SocketFolder()
        assert folder.path.parent == given
        folder.remove()
    assert list(long.iterdir()) == []
    given.rmdir()


def test_without_any_place_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_folder, "_places", lambda: iter([Path("/proc"), Path("/nowhere")]))
    with pytest.raises(ConfigError, match=r"no folder for the sockets .*\(/proc: .*; /nowhere: No such file.*set TMPDIR"):
        SocketFolder()
    monkeypatch.setattr(socket_folder, "_places", lambda: iter([]))
    with pytest.raises(ConfigError, match="there is none"):
        SocketFolder()
