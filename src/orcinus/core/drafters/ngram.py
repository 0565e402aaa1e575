"""Drafts by prompt lookup: copies of what followed the same tokens before (Saxena 2023; vLLM's `ngram`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from weakref import WeakKeyDictionary

from orcinus.core.request import Request
from orcinus.errors import ConfigError, shown

CATCH_UP = 1024  # tokens indexed in one call, which takes a few milliseconds: a long prompt delays no iteration


@dataclass(eq=False)
class Ngram:
    """Proposes the tokens that followed the last earlier occurrence of the newest n-gram.

    The n-gram is the longest of `max_n` down to `min_n` tokens that occurs earlier in prompt and output. The copy may run into
    its own tokens, as in LZ77, so an answer that loops over two tokens gets as many drafts as any other.

    A request earns its drafts: it gets twice as many as were right last time, at least 1 and at most `k`. A text that does not
    repeat pays for one draft now and then. While more than `max_batch` requests run, none gets drafts.
    """

    k: int = 8
    max_n: int = 3
    min_n: int = 2
    max_batch: int = 8

    def __post_init__(self) -> None:
        for name in ("k", "max_n", "min_n", "max_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} of the drafter 'ngram' must be at least 1, not {shown(getattr(self, name))}")
        if self.min_n > self.max_n:
            raise ConfigError(f"min_n of the drafter 'ngram' must be at most max_n, not {self.min_n} with max_n {self.max_n}")
        self._lookups = WeakKeyDictionary[Request, _Lookup]()  # of live requests

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        lookup = self._lookups.get(request)
        if lookup is None:
            lookup = self._lookups[request] = _Lookup(range(self.max_n, self.min_n - 1, -1))
        lookup.catch_up(request)
        return lookup.propose(min(self.k, lookup.earned, most))


class _Lookup:
    """A request's tokens, and where each of its n-grams ended last."""

    def __init__(self, sizes: range) -> None:
        self.sizes = sizes  # lengths of the n-grams, longest first
        self.tokens: list[int] = []  # prompt and output
        self.ends: dict[tuple[int, ...], int] = {}  # n-gram -> position of the token that followed its last occurrence
        self.indexed = 0  # the n-grams up to here are in `ends`
        self.drafts: tuple[int, ...] = ()  # proposed last
        self.earned = 1  # drafts that it may have

    def catch_up(self, request: Request) -> None:
        """Take in the new tokens, which tell how many of the last drafts were right."""
        known = len(self.tokens)
        self.tokens += request.tokens(known, request.known - known)
        if self.drafts and len(self.tokens) > known:
            right = takewhile(lambda pair: pair[0] == pair[1], zip(self.drafts, self.tokens[known:], strict=False))
            self.earned = max(1, 2 * len(list(right)))
        last = min(len(self.tokens) - 1, self.indexed + CATCH_UP)  # a token follows each of these n-grams
        for end in range(self.indexed + 1, last + 1):
            for size in self.sizes:
                if size <= end:
                    self.ends[tuple(self.tokens[end - size : end])] = end
        self.indexed = max(self.indexed, last)

    def propose(self, count: int) -> tuple[int, ...]:
        """Up to `count` tokens, copied from behind the longest n-gram found."""
        self.drafts = ()
        known = len(self.tokens)
        if self.indexed == known - 1:
            found = (self.ends.get(tuple(self.tokens[known - size :])) for size in self.sizes if size < known)
            end = next((end for end in found if end is not None), known)
            if end < known:
                self.drafts = tuple([self.tokens[end + place % (known - end)] for place in range(count)])
        return self.drafts
