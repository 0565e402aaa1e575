"""The form of answers, from flags: a JSON schema, a regular expression, choices or a grammar."""

from __future__ import annotations

from pathlib import Path

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import ConfigError, RequestError


def answer_form(
    json_schema: str | None = None, regex: str | None = None, choice: list[str] | None = None, grammar: str | None = None
) -> StructuredOutputs | None:
    """The form that flags ask for; None for any text.

    A schema is a file or, if it begins with a brace, the schema itself; a grammar is a file. Raises `ConfigError`.
    """
    asked = {"--json-schema": json_schema, "--regex": regex, "--choice": choice or None, "--grammar": grammar}
    names = [name for name, value in asked.items() if value is not None]
    if not names:
        return None
    if len(names) > 1:
        raise ConfigError(f"{' and '.join(names)} ask for different forms of the answer: give one of them")
    try:
        if json_schema is not None:
            inline = json_schema.lstrip().startswith("{")
            return StructuredOutputs(json=json_schema if inline else _read(json_schema))
        if grammar is not None:
            return StructuredOutputs(grammar=_read(grammar))
        return StructuredOutputs(regex=regex, choice=tuple(choice) if choice else None)
    except (RequestError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{names[0]}: {_reason(error)}") from None


def _read(file: str) -> str:
    return Path(file).read_text(encoding="utf-8")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot read {error.filename}: {error.strerror}"
    return "the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
