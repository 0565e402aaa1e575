"""Errors of a translated body, under the client's own field names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from orcinus.serve.errors import ApiError

# Fields in a message: not in quotes, where values stand; a plain word only where a sentence begins.
PATH = r"[a-z_]+(?:\[\d+\]|\.[A-Za-z_]\w*)+"
PLACE = re.compile(rf"""(?<![\w'".])(?:{PATH}|[a-z]+(?:_[a-z]+)+|(?:^|(?<=; )|(?<=\. ))[a-z]+)(?!['"\w])""")


@dataclass
class FieldNames:
    """Fields of a `ChatBody`, and the fields they were made from.

    `own` maps prefixes such as `messages[2].content`; the longest one that fits counts.
    """

    own: dict[str, str] = field(default_factory=dict)

    def add(self, fields: Mapping[str, str]) -> None:
        """Add prefixes."""
        self.own.update(fields)

    def find(self, place: str) -> str:
        """The client's name of a field; unchanged if not translated."""
        end = len(place)
        while end > 0:
            if (found := self.own.get(place[:end])) is not None:
                return found + place[end:]
            end = max(place.rfind(".", 0, end), place.rfind("[", 0, end))
        return place

    def translate(self, error: ApiError) -> ApiError:
        """The same error with the client's names, also in its message."""
        message = PLACE.sub(lambda found: self.find(found[0]), error.message)
        param = None if error.param is None else self.find(error.param)
        return ApiError(error.status, message, param=param, code=error.code, headers=error.headers, facts=error.facts)

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Errors of a chat become errors of the body that it was made from."""
        try:
            yield
        except ApiError as error:
            raise self.translate(error) from None


AS_THEY_ARE = FieldNames()  # of a body that is a chat itself
