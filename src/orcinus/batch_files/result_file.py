"""The file of a batch's responses, which a later run continues."""

from __future__ import annotations

import fcntl
import io
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from orcinus.batch_files.batch_line import LineError
from orcinus.errors import ConfigError, shortened

OK = 200
BEGINNING = b'{"id":"batch_req_'  # of every line, so that one that was cut is known as ours


class LineResponse(msgspec.Struct, frozen=True):
    """A server's response to one line."""

    status_code: int
    request_id: str | None
    body: msgspec.Raw  # JSON in one line

    @property
    def failed(self) -> bool:
        return self.status_code != OK


class _WrittenStatus(msgspec.Struct):
    status_code: int


class _WrittenLine(msgspec.Struct):
    """What a later run needs of a line; the rest is not even decoded."""

    custom_id: str | None
    response: _WrittenStatus | None

    @property
    def failed(self) -> bool:
        return self.response is None or self.response.status_code != OK


class ResultFile:
    """Appends lines of `id`, `custom_id`, `response` and `error`.

    A file that exists is continued: `done` are the ids that have a response. Lines without one are removed, because their
    requests are looked at again, and with `retry_failed` also those of responses that are errors. So is a last line that was
    cut. Only one process can have the file open. Raises `ConfigError` if it cannot be written or holds something else.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, retry_failed: bool = False) -> None:
        self.path, self._retry_failed = path, retry_failed
        self.done: set[str] = set()
        self.failed = self.succeeded = 0  # lines in the file
        self.first_failure: str | None = None  # of this run, in words
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a regular file: a batch that is interrupted continues from its file")
        try:
            self._file = _open(path)
            try:
                self._continue(overwrite)
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise ConfigError(f"cannot write responses to {path}: {error.strerror or error}") from None

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()

    def add_response(self, custom_id: str, response: LineResponse) -> None:
        """Append a response. Raises `OSError`, as on a full disk."""
        if response.failed:
            told, _ = error_of(response.body)
            self._note_failure(f"{shortened(custom_id)} (status {response.status_code}){told and f': {told}'}")
        self._append({"custom_id": custom_id, "response": response, "error": None}, failed=response.failed)

    def add_error(self, error: LineError) -> None:
        """Append an error. Raises `OSError`."""
        told = {"code": error.code, "message": error.message, "param": error.param, "line": error.number}
        self._note_failure(f"line {error.number}: {error.message}")
        self._append({"custom_id": error.custom_id, "response": None, "error": told}, failed=True)

    def _note_failure(self, words: str) -> None:
        self.first_failure = self.first_failure or " ".join(words.split())

    def _append(self, fields: dict[str, Any], *, failed: bool) -> None:
        line = BEGINNING + uuid.uuid4().hex[:24].encode() + b'",' + msgspec.json.encode(fields)[1:] + b"\n"
        left = memoryview(line)
        while left:  # unbuffered, so that an end of the process cuts one line at most
            left = left[self._file.write(left) :]
        self._count(failed)

    def _count(self, failed: bool) -> None:
        self.failed += failed
        self.succeeded += not failed

    def _continue(self, overwrite: bool) -> None:
        """Note what the file holds, mend its end, and remove what is run again."""
        if overwrite:
            self._file.truncate(0)
        size, removed, ended = 0, 0, True
        with self.path.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                line = _decode(raw)
                if line is None and (raw.endswith(b"\n") or not raw.startswith(BEGINNING[: len(raw)])):
                    message = f"line {number} of {self.path} is no response of a batch: choose another file, or --overwrite"
                    raise ConfigError(message)
                if line is None:  # the last one, and cut
                    break
                size += len(raw)
                ended = raw.endswith(b"\n")
                if self._keeps(line):
                    self._count(line.failed)
                    self.done.add(line.custom_id or "")
                else:
                    removed += 1
        self._file.truncate(size)
        if not ended:
            self._file.write(b"\n")
        if removed:
            self._rewrite()

    def _keeps(self, line: _WrittenLine) -> bool:
        return line.response is not None and not (self._retry_failed and line.failed)

    def _rewrite(self) -> None:
        """Replace the file by one with the kept lines alone."""
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        with self.path.open("rb") as lines, new.open("wb") as kept:
            kept.writelines(raw for raw in lines if (line := _decode(raw)) is not None and self._keeps(line))
        file = _open(new)
        new.replace(self.path)
        self._file.close()
        self._file = file


def error_of(body: msgspec.Raw | bytes) -> tuple[str, str | None]:
    """Message and code of an error response in OpenAI's form; ("", None) of another one."""
    try:
        error: Any = msgspec.json.decode(body)["error"]
        return shortened(str(error["message"])), error.get("code")
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return "", None


def _open(path: Path) -> io.FileIO:
    """The file, opened to append, and locked."""
    file = open(path, "a+b", buffering=0)  # noqa: SIM115  (closed by the object that holds it)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(f"another process is writing {path}: wait for it, or choose another file") from None
    return file


def _decode(raw: bytes) -> _WrittenLine | None:
    try:
        return msgspec.json.decode(raw, type=_WrittenLine)
    except msgspec.DecodeError:
        return None
