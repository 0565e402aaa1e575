"""Paged K/V memory in which requests share the blocks of equal prefixes.

See vLLM, section 4.3, and SGLang's RadixAttention.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain

from orcinus.core.kv.paged import Paged
from orcinus.core.ports import PrefixStats
from orcinus.core.request import Request


@dataclass(slots=True)
class _Cached:
    blocks: tuple[int, ...]  # one per group of layers
    tokens: tuple[int, ...]  # compared too, against digest collisions


class PrefixCache(Paged):
    """Paged K/V memory whose full blocks are found again by a digest.

    The digest covers the block's tokens, all tokens before them, and the request's adapter and `cache_salt`. A block that was
    computed once can be read by any number of requests; it is never written again. An unused block stays until its room is
    needed: then the least recently used one is evicted. At least one token of a request is always left to compute, because
    its logits are needed to sample the next one.

    While a request computes a prefix, other requests with the same prefix are not `ready`: waiting for its blocks costs less
    than computing them again.
    """

    stats: PrefixStats

    def __init__(self, num_blocks: int, block_size: int, watermark: float = 0.01, groups: int = 1) -> None:
        super().__init__(num_blocks, block_size, watermark, groups)
        self.stats = PrefixStats()
        self._users = [0] * num_blocks
        self._cached: dict[bytes, _Cached] = {}
        self._digests: dict[int, bytes] = {}  # of cached blocks
        self._unused: OrderedDict[int, None] = OrderedDict()  # cached blocks without users, least recently used first
        self._chains: dict[str, list[bytes]] = {}  # request -> digests of its first blocks
        self._computing: dict[bytes, str] = {}  # digest -> the running request that will compute it

    @property
    def num_free(self) -> int:
        return len(self._free) + len(self._unused)

    def can_admit(self, request: Request) -> bool:
        found = self._match(request)
        spare = self.watermark_blocks if self._tables else 0
        unused = sum(block in self._unused for blocks in found for block in blocks)
        return self.blocks_for(request.known) - len(found) * self.groups + spare <= self.num_free - unused

    def cached(self, request: Request) -> int:
        return len(self._match(request)) * self.block_size

    def ready(self, request: Request) -> bool:
        most, found = self._most(request), len(self._match(request))
        return found == most or self._computing.get(self._digest_chain(request, most)[found], request.id) == request.id

    def admit(self, request: Request) -> int:
        found = self._match(request)
        for block in chain.from_iterable(found):
            self._users[block] += 1
            self._unused.pop(block, None)
        self._tables[request.id] = tuple(zip(*found, strict=True)) or self._none
        taken = self.extend(request, request.known)
        assert taken, "admit without can_admit"
        for digest in self._digest_chain(request, self._most(request))[len(found) : self._most(request)]:
            self._computing.setdefault(digest, request.id)
        self.stats.queries += request.known
        self.stats.hits += len(found) * self.block_size
        return len(found) * self.block_size

    def commit(self, request: Request) -> None:
        tables, full = self._tables[request.id], request.computed // self.block_size
        if full == 0 or tables[0][full - 1] in self._digests:
            return  # no block became full: the usual case
        digests = self._digest_chain(request, full)
        for place in range(full - 1, -1, -1):  # from the newest back to the first one already noted
            blocks, digest = tuple(table[place] for table in tables), digests[place]
            if blocks[0] in self._digests:
                break
            if digest not in self._cached:  # else another request computed the same block meanwhile
                self._cached[digest] = _Cached(blocks, self._tokens(request, place))
                self._digests.update(dict.fromkeys(blocks, digest))
            if self._computing.get(digest) == request.id:
                del self._computing[digest]

    def release(self, request: Request) -> None:
        for digest in self._chains.pop(request.id, ()):
            if self._computing.get(digest) == request.id:
                del self._computing[digest]
        tables = self._tables.pop(request.id, self._none)
        for block in chain.from_iterable(map(reversed, tables)):  # ends of texts are evicted before their beginnings
            self._users[block] -= 1
            if self._users[block] == 0:
                if block in self._digests:
                    self._unused[block] = None
                else:
                    self._free.append(block)

    def _take(self, count: int) -> tuple[int, ...]:
        return tuple([self._take_one() for _ in range(count)])

    def _take_one(self) -> int:
        if self._free:
            block = self._free.popleft()
        else:
            block, _ = self._unused.popitem(last=False)
            for other in self._cached.pop(self._digests[block]).blocks:  # the other groups' blocks are useless without it
                del self._digests[other]
                if other != block:
                    del self._unused[other]
                    self._free.append(other)
            self.stats.evictions += 1
        self._users[block] = 1
        return block

    def _most(self, request: Request) -> int:
        """The most blocks of a request that a look-up may find.

        A prompt that is scored has to be computed, so none of its blocks count.
        """
        return 0 if request.params.prompt_logprobs is not None else (request.known - 1) // self.block_size

    def _match(self, request: Request) -> list[tuple[int, ...]]:
        """The cached blocks of its first tokens: per place, one per group."""
        found = []
        digests = self._digest_chain(request, self._most(request))
        for place in range(self._most(request)):
            cached = self._cached.get(digests[place])
            if cached is None or cached.tokens != self._tokens(request, place):
                break
            found.append(cached.blocks)
        return found

    def _digest_chain(self, request: Request, count: int) -> list[bytes]:
        """The digests of its first blocks, at least `count`.

        Each is made of the one before it and of the block's tokens.
        """
        digests = self._chains.setdefault(request.id, [])
        while len(digests) < count:
            before = digests[-1] if digests else sha256(request.context.prefix_key.encode("utf-8", "surrogatepass")).digest()
            digests.append(sha256(before + array("q", self._tokens(request, len(digests))).tobytes()).digest())
        return digests

    def _tokens(self, request: Request, place: int) -> tuple[int, ...]:
        return request.tokens(place * self.block_size, self.block_size)
