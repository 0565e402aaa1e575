"""Very many requests through the client of an engine process, without HTTP: nothing may grow with their number.

python -m tests.soak_engine [--requests N] [--json FILE] [--plot FILE]

The engine is simulated. Some requests are cancelled; some are never read to their end.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve.replica_set import ReplicaSet
from orcinus.serve.streams import Inbox
from orcinus.sim.live_config import LiveConfig
from orcinus.text.answer import TextDelta
from orcinus.text.input_processor import TokenizedRequest
from tests.engine_processes import engine_processes
from tests.soak import Run, Sample, arguments, census, census_environment, conclude, count
from tests.soak_census.sitecustomize import count as count_objects

IN_FLIGHT = 128
SAMPLES = 120


class Flood:
    """Requests through a `ReplicaSet`."""

    def __init__(self, replicas: ReplicaSet, requests: int, folder: Path) -> None:
        self.replicas, self.left, self.folder, self.run = replicas, requests, folder, Run(seed=0)
        self.every = requests // SAMPLES
        self.random = random.Random(0)

    async def client(self) -> None:
        """Send requests until enough were sent."""
        while self.left > 0:
            self.left -= 1
            await self.ask(f"request-{self.left}")
            if self.left % self.every == 0:
                self.sample()

    async def ask(self, name: str) -> None:
        """Send one request; one in 16 is cancelled after its first news."""
        ids = tuple(self.random.randrange(1, 1000) for _ in range(self.random.randint(1, 64)))
        params = SamplingParams(max_tokens=self.random.randint(1, 6), seed=0, ignore_eos=True)
        inbox: Inbox = asyncio.Queue()
        cancelled = self.random.randrange(16) == 0
        self.replicas.submit(name, TokenizedRequest(0, 0, None, ids, params, RequestContext()), inbox)
        while True:
            news = await inbox.get()
            if cancelled:
                self.replicas.streams.cancel(name)
                self.run.kinds["cancelled"] += 1
                return
            if isinstance(news, TextDelta) and news.finish_reason is not None:
                self.run.kinds["complete"] += 1
                if news.finish_reason != "length":
                    self.run.wrong[news.finish_reason] += 1
                return

    def sample(self) -> None:
        """Count this process and the engine's."""
        ((engine, *_),) = engine_processes(os.getpid())
        found = {"client": count(os.getpid()) | count_objects(), "engine": count(engine) | census(self.folder, engine)}
        for counts in found.values():
            counts.pop("types", None)
        counts = {f"{process}: {what}": value for process, of in found.items() for what, value in of.items()}
        self.run.samples.append(Sample(self.run.seconds, self.run.kinds.total(), counts))


async def flood(requests: int, folder: Path) -> Run:
    """Send so many requests to a fresh engine."""
    replicas = ReplicaSet(LiveConfig(model="llama-7b", speed=1000.0, max_batch_size=IN_FLIGHT))
    await replicas.start()
    try:
        found = Flood(replicas, requests, folder)
        await asyncio.gather(*(found.client() for _ in range(IN_FLIGHT)))
        if len(replicas.streams):
            found.run.wrong["requests are left at the end"] += 1
        return found.run
    finally:
        await replicas.close()


def main() -> int:
    """Exit status 0 if everything stayed flat."""
    parser = arguments(__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, census_environment(folder)):
        run = asyncio.run(flood(asked.requests, Path(folder)))
    return conclude(run, "the engine's client", ["--requests", str(asked.requests)], asked)


if __name__ == "__main__":
    sys.exit(main())
