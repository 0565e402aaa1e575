"""K/V memory in contiguous pieces from a buddy allocator: vLLM's Orca baselines."""

from __future__ import annotations

from orcinus.core.kv.reserved import Reservation
from orcinus.core.request import Request


class Buddy(Reservation):
    """Reserves prompt + max_tokens, in one contiguous piece (vLLM, section 6.1; Knuth, volume 1, section 2.5).

    A piece has a power of two of blocks and begins at a multiple of its size. A larger piece is halved until one half is just
    large enough; a released piece joins its other half, its buddy, when that is free too. So a request holds up to twice
    what it asks for, and may wait although enough memory is free, in pieces that are too small.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self._free.clear()  # blocks are not taken one by one
        self._pieces: dict[int, set[int]] = {}  # size -> the first blocks of free pieces
        start = 0
        for size in (1 << power for power in reversed(range(num_blocks.bit_length()))):
            self._pieces[size] = {start} if num_blocks & size else set()
            start += num_blocks & size
        self._held: dict[str, tuple[int, int]] = {}  # request -> first block and size of its piece

    @property
    def num_free(self) -> int:
        return sum(size * len(starts) for size, starts in self._pieces.items())

    @property
    def longest(self) -> int:
        return max(self._pieces) * self.block_size

    def can_admit(self, request: Request) -> bool:
        return self._smallest(self._size_of(request)) is not None

    def admit(self, request: Request) -> int:
        wanted = self._size_of(request)
        size = self._smallest(wanted)
        assert size is not None, "admit without can_admit"
        start = min(self._pieces[size])
        self._pieces[size].remove(start)
        while size > wanted:
            size //= 2
            self._pieces[size].add(start + size)
        self._held[request.id] = start, size
        self._tables[request.id] = (tuple(range(start, start + size)),)
        return 0

    def release(self, request: Request) -> None:
        if request.id not in self._held:
            return
        del self._tables[request.id]
        start, size = self._held.pop(request.id)
        while (buddy := start ^ size) in self._pieces[size]:
            self._pieces[size].remove(buddy)
            start, size = min(start, buddy), 2 * size
        self._pieces[size].add(start)

    def _size_of(self, request: Request) -> int:
        """Blocks of the smallest piece that holds a request's reservation."""
        return 1 << (self.blocks_for(self.reservation(request)) - 1).bit_length()

    def _smallest(self, wanted: int) -> int | None:
        """The smallest size of at least `wanted` blocks with a free piece."""
        return min((size for size, starts in self._pieces.items() if starts and size >= wanted), default=None)
