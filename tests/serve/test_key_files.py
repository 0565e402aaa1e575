"""Files with API keys: how they may be written, and that they are read again while the server runs."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from orcinus.errors import ConfigError
from orcinus.serve.errors import ApiError
from orcinus.serve.keys import KeySources, read_keys
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until

WRITTEN = {
    "plain": b"one\ntwo\n",
    "without an end": b"one\ntwo",
    "a mark at the beginning": b"\xef\xbb\xbfone\ntwo\n",
    "a mark before a comment": b"\xef\xbb\xbf# keys\none\ntwo\n",
    "other ends of lines": b"one\r\ntwo\r\n",
    "blank lines and spaces": b"\n  one  \n \t\n\ttwo\n\n",
    "indented comments": b"# a\n  # b\n\t# c\r\none\n   #two\ntwo\n",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_how_keys_may_be_written(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(written)
    assert read_keys(file) == ["one", "two"]


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (b"one\ntwo words\n", "line 2 of .* is not a key"),
        (b"# \xc3\xbc\n\n\xc3\xbcmlaut\n", "line 3 of .* is not a key"),
        (b"\xff\xfeo\x00n\x00e\x00", "it is not UTF-8"),
        (b"\xef\xbb\xbf", "holds no key"),
        (b"  # only\n", "holds no key"),
        (b"one\n" * 2**18 + b"x", "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_used_is_named_and_never_shown(tmp_path: Path, written: bytes, problem: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(written)
    with pytest.raises(ConfigError, match=problem) as caught:
        read_keys(file)
    assert "words" not in str(caught.value)


def known(sources: KeySources, *keys: str) -> list[bool]:
    def one(key: str) -> bool:
        try:
            return sources.keys.holder([f"Bearer {key}".encode()]) is not None
        except ApiError:
            return False

    return [one(key) for key in keys]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "keys"
    found.write_text("one\n")
    return found


def test_a_changed_file_is_read_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = KeySources("fixed, given", file, environment={"ORCINUS_ADMIN_KEY": "admin"})
    keys = sources.keys
    sources.refresh()
    assert caplog.messages == []
    file.write_text("two\nthree\n")
    sources.refresh()
    assert known(sources, "one", "two", "three", "fixed", "given", "admin") == [False, True, True, True, True, True]
    assert sources.keys is keys, "those who hold the keys see the new ones"
    assert caplog.messages == ["API keys were read again: 5 are known"]


@pytest.mark.parametrize("written", [b"", b"two words", b"\xff\xfe", None])
def test_a_broken_file_changes_nothing_and_is_told_once(
    file: Path, written: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    sources = KeySources(None, file, environment={})
    if written is None:
        file.unlink()
    else:
        file.write_bytes(written)
    for _ in range(3):
        sources.refresh()
    assert known(sources, "one") == [True]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the API keys stay as they were: ")
    file.write_text("mended\n")
    sources.refresh()
    assert known(sources, "one", "mended") == [False, True]


@pytest.mark.parametrize("changed", [True, False])
def test_what_is_no_regular_file_is_not_read_again(file: Path, caplog: pytest.LogCaptureFixture, changed: bool) -> None:
    """Opening a pipe waits for its writer; /dev/zero has no end."""
    sources = KeySources(None, file, environment={})
    for make in (lambda: os.mkfifo(file), file.mkdir, lambda: file.symlink_to("/dev/zero")):
        file.rmdir() if file.is_dir() else file.unlink()
        make()
        caplog.clear()
        sources.refresh(changed=changed)
        assert caplog.messages == [f"the API keys stay as they were: {file} is not a regular file"]
        assert known(sources, "one") == [True]
    file.unlink()
    file.write_text("two\n")
    sources.refresh()
    assert known(sources, "one", "two") == [False, True]


def test_keys_of_a_pipe_are_read_once_at_the_start(tmp_path: Path) -> None:
    """As `--api-key-file <(...)` of a shell gives them."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("one\n",))
    writer.start()
    sources = KeySources(None, pipe, environment={})
    writer.join()
    sources.refresh(changed=True)
    assert known(sources, "one") == [True]


def test_one_broken_file_of_two_keeps_both(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    admins = tmp_path / "admins"
    admins.write_text("root")
    with caplog.at_level(logging.WARNING):
        sources = KeySources(None, file, admins, environment={})
        file.write_text("two\n")
        admins.write_text("\n")
        sources.refresh()
    assert known(sources, "one", "two", "root") == [True, False, True]


def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    """So containers replace secrets."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "keys"
    link.symlink_to(tmp_path / "one")
    sources = KeySources(None, link, environment={})
    link.unlink()
    link.symlink_to(tmp_path / "two")
    sources.refresh()
    assert known(sources, "one", "two") == [False, True]


def status(server: Running, key: str) -> int:
    return httpx.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_server_takes_new_keys_and_refuses_old_ones(file: Path) -> None:
    with serving_in_process("--simulate", "llama-7b", "--api-key-file", str(file)) as server:
        assert (status(server, "one"), status(server, "two")) == (200, 401)
        file.write_text("two\n")
        wait_until(lambda: status(server, "two") == 200, pause=0.1)
        assert status(server, "one") == 401
        if not server_has_terminal():
            file.write_text("three\n")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: status(server, "three") == 200)
            assert status(server, "two") == 401, "SIGHUP reads the keys again, it does not end a service"


def server_has_terminal() -> bool:
    try:
        with open("/dev/tty"):
            return True
    except OSError:
        return False
