"""The way back of an engine that was started again."""

from __future__ import annotations

from orcinus.serve.streams import ServingEngine, Stream, Streams


class Recovery:
    """Submits the requests that wait for an engine: suspects first, one at a time.

    A suspect runs alone until it has a new token, so that a death under it proves that it is the cause. Then all the others
    follow together, in their order.
    """

    def __init__(self, engine: ServingEngine, streams: Streams) -> None:
        self.engine, self.streams = engine, streams
        self._submitted: set[str] = set()

    def step(self) -> bool:
        """Submit what may run now; True once nothing waits any more."""
        mine = self.streams.served_by(self.engine)
        suspect = next((stream for stream in mine if stream.suspect), None)
        for stream in mine if suspect is None else [suspect]:
            self._submit(stream)
        return suspect is None

    def _submit(self, stream: Stream) -> None:
        name = stream.answer.request_id
        if name not in self._submitted:
            self._submitted.add(name)
            self.engine.send(stream.submission())
