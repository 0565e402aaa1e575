"""The access log: one JSON line per request.

It goes to a file or to standard error.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import msgspec

from orcinus.errors import ConfigError
from orcinus.serve.ended_request import EndedRequest

to_json = msgspec.json.Encoder().encode

log = logging.getLogger(__name__)


class AccessLog:
    """The access log's file; `-` is standard error.

    Raises `ConfigError` if it cannot be opened. Lines are written at once. While the file cannot be written (a full disk),
    lines are lost and requests are still answered; the log says when such a time begins and ends.
    """

    def __init__(self, where: str) -> None:
        self.where, self.lost = where, 0
        try:
            self._file = self._open()
        except OSError as error:
            raise ConfigError(f"cannot write the access log {where}: {error.strerror or error}") from None

    def _open(self) -> BinaryIO:
        return os.fdopen(os.dup(2), "wb", buffering=0) if self.where == "-" else open(self.where, "ab", buffering=0)

    @property
    def is_file(self) -> bool:
        """Whether it is a file that may be moved away."""
        return self.where != "-" and (os.path.isfile(self.where) or not os.path.exists(self.where))

    def reopen(self) -> bool:
        """Open the file again, which may have been moved away (logrotate); returns whether that was done.

        One that cannot be opened changes nothing, and the log says why. A pipe stays open, since opening it waits for a reader.
        """
        if not self.is_file:
            return False
        try:
            file = self._open()
        except OSError as error:
            log.warning("the access log stays as it was: cannot open %s: %s", self.where, error.strerror or error)
            return False
        self._file.close()
        self._file = file
        return True

    def record(self, request: EndedRequest) -> None:
        """Append the line of a request."""
        self.write(request.line())

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        try:
            self._file.write(to_json(line) + b"\n")
        except OSError as error:
            if not self.lost:
                log.warning("cannot write the access log %s: %s; lines are lost until it can be", self.where, error.strerror)
            self.lost += 1
            return
        if self.lost:
            log.warning("the access log %s is written again; %d lines were lost", self.where, self.lost)
            self.lost = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()
