"""The access log when its file cannot be written: requests are answered, and the loss is told once."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from orcinus.errors import ConfigError
from orcinus.serve.access_log import AccessLog
from tests.serve.in_process import serving_in_process


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
