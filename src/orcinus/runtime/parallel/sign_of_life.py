"""A rank's signs of life, from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import zmq

from orcinus.runtime.parallel.messages import NO_BATCH, SignOfLife, encode

EVERY_S = 0.5


class SignsOfLife:
    """Says twice a second what the rank does, until the process ends.

    A rank that computes for long still gives signs; one that is stopped, or whose interpreter hangs, does not.
    """

    def __init__(self, rank: int, socket: zmq.Socket[bytes]) -> None:
        self.rank, self.batch, self.waits_in = rank, NO_BATCH, ""
        self.waited: defaultdict[str, float] = defaultdict(float)  # seconds in each kind of collective so far
        self._socket, self._ended = socket, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="signs-of-life", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.is_set():
            self._socket.send(encode(SignOfLife(self.rank, self.batch, self.waits_in)))
            self._ended.wait(EVERY_S)

    @contextmanager
    def waiting_in(self, collective: str) -> Iterator[None]:
        """The block waits for other ranks."""
        self.waits_in, began = collective, time.monotonic()
        yield
        self.waited[collective] += time.monotonic() - began
        self.waits_in = ""  # not if it raises: then it waited in vain

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()
