"""The lines of a batch file: requests, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from orcinus.errors import ConfigError, shown

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
MOST_BYTES = 16 * 2**20  # of a line; a server takes bodies of 8 MiB
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request; `body` is its JSON exactly as the file has it."""

    number: int  # from 1, blank lines included
    custom_id: str
    url: str
    body: bytes


class LineError(Exception):
    """A line that is not sent, or whose response never came.

    `code` is OpenAI's word where there is one; `param` names the field.
    """

    def __init__(self, number: int, code: str, message: str, *, param: str | None = None, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.number, self.code, self.message, self.param, self.custom_id = number, code, message, param, custom_id


class _Stream(msgspec.Struct):
    stream: object = None


def numbered_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers.

    Of a line above `MOST_BYTES`, only that many bytes and one more. Raises `ConfigError` if the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            number = 0
            while line := opened.readline(MOST_BYTES + 1):
                number += 1
                rest = line
                while rest and not rest.endswith(b"\n"):  # skipped, so that memory stays bounded
                    rest = opened.readline(MOST_BYTES)
                if number == 1:
                    line = line.removeprefix(BYTE_ORDER_MARK)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise ConfigError(f"cannot read requests from {file}: {error.strerror or error}") from None


def parse_line(number: int, raw: bytes) -> BatchLine:
    """The request in a line. Raises `LineError`.

    The body is left to the server; only `stream` is refused here, because a stream has no place in a file.
    """
    if len(raw) > MOST_BYTES:
        raise LineError(number, "line_too_large", f"the line is larger than {MOST_BYTES // 2**20} MiB")
    fields = _fields(number, raw)
    custom_id = _text(number, fields, "custom_id", None)
    if not custom_id:
        raise LineError(number, "invalid_value", "custom_id is empty", param="custom_id")
    method = _text(number, fields, "method", custom_id)
    if method != "POST":
        raise LineError(
            number, "invalid_method", f"method must be POST, not {shown(method)}", param="method", custom_id=custom_id
        )
    url = _text(number, fields, "url", custom_id)
    if url not in URLS:
        message = f"url must be one of {', '.join(URLS)}, not {shown(url)}"
        raise LineError(number, "invalid_url", message, param="url", custom_id=custom_id)
    body = _field(number, fields, "body", custom_id)
    if _streams(body):
        message = "stream must be false: the response is a line of a file"
        raise LineError(number, "unsupported_value", message, param="body.stream", custom_id=custom_id)
    return BatchLine(number, custom_id, url, bytes(body))


def _fields(number: int, raw: bytes) -> dict[str, msgspec.Raw]:
    try:
        raw.decode()
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        what = "the line must be a JSON object"
    except UnicodeDecodeError as error:
        what = f"the line is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}"
    except (msgspec.DecodeError, RecursionError) as error:
        what = f"the line is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}"
    raise LineError(number, "invalid_json_line", what)


def _field(number: int, fields: dict[str, msgspec.Raw], name: str, custom_id: str | None) -> msgspec.Raw:
    if name not in fields:
        message = f"{name} is missing"
        raise LineError(number, "missing_required_parameter", message, param=name, custom_id=custom_id)
    return fields[name]


def _text(number: int, fields: dict[str, msgspec.Raw], name: str, custom_id: str | None) -> str:
    try:
        return msgspec.json.decode(_field(number, fields, name, custom_id), type=str)
    except msgspec.DecodeError:
        raise LineError(number, "invalid_type", f"{name} must be a string", param=name, custom_id=custom_id) from None


def _streams(body: msgspec.Raw) -> bool:
    """Whether a body asks for a stream; the server finds its mistakes."""
    try:
        return msgspec.json.decode(body, type=_Stream).stream is True
    except (msgspec.DecodeError, RecursionError):
        return False
