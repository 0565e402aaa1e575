"""The access log when its file cannot be written: requests are answered, and the loss is told once."""

from __future__ import annotations

import errno
import json
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from orcinus.errors import ConfigError
from orcinus.serve.access_log import AccessLog
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until


class Disk:
    """A file on a disk that can be full."""

    def __init__(self) -> None:
        self.full, self.content = False, b""

    def write(self, data: bytes) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += data
        return len(data)


def test_a_full_disk_is_told_when_it_begins_and_when_it_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.close()
    log._file = disk = Disk()  # type: ignore[assignment]
    for number in range(6):
        disk.full = number in (1, 2, 3)
        log.write({"request": number})
    assert [json.loads(line)["request"] for line in disk.content.splitlines()] == [0, 4, 5]
    first, last = (one.getMessage() for one in caplog.records)
    assert "No space left on device; lines are lost" in first
    assert "3 lines were lost" in last


@pytest.mark.parametrize("where", ["", "no/such/folder/log", "/"])
def test_a_place_that_cannot_be_opened_is_refused_at_the_start(where: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write the access log"):
        AccessLog(where and str(tmp_path / where))


def test_a_server_whose_access_log_is_full_serves_on(caplog: pytest.LogCaptureFixture) -> None:
    with serving_in_process("--simulate", "opt-13b", "--access-log", "/dev/full") as server:
        for _ in range(4):
            assert server.http.get("/v1/models").status_code == 200
    assert caplog.messages == ["cannot write the access log /dev/full: No space left on device; lines are lost until it can be"]


def test_a_log_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path))
    log.write({"request": 0})
    path.rename(tmp_path / "log.1")
    log.write({"request": 1})
    assert log.reopen()
    log.write({"request": 2})
    assert [json.loads(line)["request"] for line in (tmp_path / "log.1").read_text().splitlines()] == [0, 1]
    log.close()
    assert json.loads(path.read_text()) == {"request": 2}


def test_one_that_cannot_be_opened_stays_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "log"))
    folder.rename(tmp_path / "old")
    assert not log.reopen()
    log.write({"request": 0})
    log.close()
    assert json.loads((tmp_path / "old" / "log").read_text()) == {"request": 0}
    assert caplog.messages == [f"the access log stays as it was: cannot open {folder / 'log'}: No such file or directory"]


def test_a_pipe_and_standard_error_stay_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for where in (str(tmp_path / "pipe"), "-"):
        with closing(AccessLog(where)) as log:
            assert not log.reopen(), "a pipe would wait for a reader"
    os.close(reader)


def test_under_nohup_sighup_only_reads_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A server that is told to outlive its terminal does, whether or not there is one."""
    path, before = tmp_path / "log", signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serving_in_process("--simulate", "opt-13b", "--access-log", str(path)) as server:
            server.http.get("/ready")
            path.rename(tmp_path / "log.1")
            server.process.send_signal(signal.SIGHUP)
            wait_until(path.exists)
            assert server.http.get("/ready").status_code == 200
            wait_until(lambda: bool(path.read_text()))  # its line follows the response
            assert json.loads(path.read_text())["path"] == "/ready"
    finally:
        signal.signal(signal.SIGHUP, before)
    assert f"SIGHUP: the access log is open again; options change with --replace {os.getpid()}" in capfd.readouterr().err
