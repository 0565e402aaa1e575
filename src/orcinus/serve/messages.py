"""Messages between a server's two processes, tagged and typed.

Typed fields hold core types.
"""

from __future__ import annotations

import msgspec

from orcinus.core.batch import BlockTables, Finished, StageRun, Token
from orcinus.core.promises import PromiseVerdict
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved
from orcinus.observe.timeline import Timeline
from orcinus.runtime.parallel.mesh import RankProcess


class Submit(msgspec.Struct, tag="submit", array_like=True):
    """Queue a request.

    The id is the server's own, never a client's.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    context: RequestContext = RequestContext()
    output: tuple[int, ...] = ()  # tokens generated so far, of a request that is submitted again
    arrival: float | None = None  # on the machine's monotonic clock, which engines have; None: now
    deadline: float | None = None  # on the same clock
    ask: bool = False  # queue it only if its SLO is predicted to be kept; the answer is `Promised`
    book: bool = True  # if it is not, hold room for it at the time that it is told
    full: bool = False  # the server's queue is full: accept it only if it comes as it was told


class Cancel(msgspec.Struct, tag="cancel", array_like=True):
    """End a request.

    `stop` says that a stop string was found in its text.
    """

    id: str
    stop: bool = False


class SetPace(msgspec.Struct, tag="pace", array_like=True):
    """Start no more iterations, resume, or run in slow motion.

    Requests wait meanwhile, and can still be cancelled or reach their deadlines.
    """

    paused: bool
    min_seconds: float = 0.0  # least time from one iteration's start to the next one's; 0 = full speed


class Step(msgspec.Struct, tag="step", array_like=True):
    """Start so many iterations although the engine is paused."""

    iterations: int


class TimeStages(msgspec.Struct, tag="stages", array_like=True):
    """Tell when pipeline stages ran which batches, from now on or no more."""

    on: bool


class Use(msgspec.Struct, tag="use", array_like=True):
    """Switch policy, order or limits between two iterations.

    The answer is `Using` or `Refused`.
    """

    policy: str | None = None
    order: str | None = None
    max_batch_size: int | None = None
    max_batch_tokens: int | None = None


class Ask(msgspec.Struct, tag="ask", array_like=True):
    """Ask for a request's timeline.

    The answer is `TimelineFound` or `Refused`.
    """

    id: str


class Stop(msgspec.Struct, tag="stop", array_like=True):
    """End the process at once."""


class Loading(msgspec.Struct, tag="loading", array_like=True):
    """The model's loading progress."""

    stage: str
    done: int  # bytes
    total: int

    @property
    def in_words(self) -> str:
        """The stage, with its percentage if it has one."""
        return self.stage + (f" {100 * self.done // self.total} %" if self.total else "")


class Ready(msgspec.Struct, tag="ready", array_like=True):
    """The engine is ready; the HTTP side needs these facts."""

    max_model_len: int
    vocab_size: int
    kv_tokens: int
    num_blocks: int
    revision: str | None = None  # the commit of a hub repository
    kv_manager: str = "paged"
    dtype: str = "auto"  # of the K/V cache
    max_batch_tokens: int = 0
    ranks: tuple[RankProcess, ...] = ()  # where a model's ranks run, if it has several

    @property
    def block_size(self) -> int:
        """Tokens of one block."""
        return self.kv_tokens // self.num_blocks


class EngineFailed(msgspec.Struct, tag="failed", array_like=True):
    """The engine could not be built or cannot go on."""

    reason: str


class Using(msgspec.Struct, tag="using", array_like=True):
    """The engine's policy, order, limits and load."""

    policy: str
    order: str
    max_batch_size: int
    max_batch_tokens: int
    paused: bool
    running: int
    waiting: int
    free_blocks: int


class Refused(msgspec.Struct, tag="refused", array_like=True):
    """A refused switch or an unanswerable question, and why."""

    reason: str


class TimelineFound(msgspec.Struct, tag="timeline", array_like=True):
    """A request's timeline."""

    timeline: Timeline


class Promised(msgspec.Struct, array_like=True):
    """Whether a request with an SLO was accepted."""

    id: str
    verdict: PromiseVerdict


class Ending(msgspec.Struct, array_like=True):
    """A request's end."""

    finished: Finished
    timeline: Timeline | None = None


class ScheduledChunk(msgspec.Struct, array_like=True):
    """One request's share of an iteration."""

    id: str
    start: int
    tokens: int
    prefill: bool
    new_blocks: BlockTables = ()  # that it got since its last chunk, per group of layers; at first all


class ScheduledBatch(msgspec.Struct, array_like=True):
    """A planned batch: its requests, and those left out."""

    batch: int
    at: float  # when it was launched
    budget: int  # most tokens it could have had
    chunks: list[ScheduledChunk]
    unserved: Unserved
    draft_tokens: int = 0  # guesses that it verified (speculative decoding)
    accepted_draft_tokens: int = 0
    returned: float = 0.0
    removed: tuple[str, ...] = ()  # requests that have left their blocks since the batch before


class EngineOutput(msgspec.Struct, tag="iteration", array_like=True):
    """The results of one iteration; an empty one is a heartbeat."""

    at: float
    tokens: list[Token] = []
    endings: list[Ending] = []
    batches: list[ScheduledBatch] = []
    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    seconds: float = 0.0  # that the iteration took
    promised: list[Promised] = []
    stage_runs: list[StageRun] = []  # if asked for by `TimeStages`


ToEngine = Submit | Cancel | SetPace | Step | TimeStages | Use | Ask | Stop
FromEngine = Loading | Ready | EngineFailed | Using | Refused | TimelineFound | EngineOutput
