"""A server's state between HTTP and the engine."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import fields

from starlette.requests import Request

import orcinus
from orcinus.core.request import Finish, RequestContext
from orcinus.errors import EngineError
from orcinus.serve.admission_control import AdmissionControl, Bounds
from orcinus.serve.block_tables import BlockTables
from orcinus.serve.body import Body, read_body
from orcinus.serve.body_reader import BodyReader
from orcinus.serve.calls import PAUSED_S, Call, Calls
from orcinus.serve.config import ServerConfig
from orcinus.serve.engine_client import EngineSilent
from orcinus.serve.engines import adapters_of, to_wire
from orcinus.serve.errors import ApiError, unavailable
from orcinus.serve.iteration_events import IterationEvents
from orcinus.serve.keys import Keys
from orcinus.serve.ledgers import Ledgers
from orcinus.serve.messages import EngineOutput
from orcinus.serve.metrics import REJECTIONS, Metrics
from orcinus.serve.replica_set import ReplicaSet
from orcinus.serve.request_processor import RequestProcessor, sizes
from orcinus.serve.request_processor import prompts as prompts_of
from orcinus.serve.response_store import ResponseStore
from orcinus.serve.retry_after import RetryAfter
from orcinus.serve.schema import CompletionBody, Sampling
from orcinus.serve.supervisor import Death, Return
from orcinus.serve.text_threads import TextThreads
from orcinus.text.input_processor import TokenizedRequest

MOST_COUNTED = 16  # texts tokenized at once without an answer
CONTEXT_FIELDS = tuple(field.name for field in fields(RequestContext))
COMPLETE = (Finish.STOP, Finish.LENGTH)
DEFAULT_SLOTS = 128  # if a simulation does not say


class Service:
    """One model behind HTTP."""

    def __init__(self, replicas: ReplicaSet, config: ServerConfig, name: str, keys: Keys) -> None:
        self.replicas, self.config, self.name, self.keys = replicas, config, name, keys
        self.draining = False
        self.leaving = False  # its process ends soon: load balancers are told before requests are refused
        self.created = int(time.time())
        count = len(replicas.engines)
        slots = count * (getattr(replicas.config, "max_batch_size", None) or DEFAULT_SLOTS)
        self.waits = RetryAfter(min(slots, config.max_queue), replicas=count)
        self.admission = AdmissionControl(
            Bounds(config.max_queue, config.max_queue_tokens, config.max_queue_per_key), self.retry_after, self.waits.held
        )
        self.calls = Calls(replicas, self.admission)
        self.stored = ResponseStore()
        self.adapters = adapters_of(replicas.config)
        self.metrics, self.ledgers = Metrics(name, count, self.adapters), Ledgers()
        self._keeps_ledgers = False
        self.block_tables = BlockTables(replicas)
        self.threads, self.body_reader = TextThreads(), BodyReader()
        self.iteration_events = IterationEvents(replicas)
        self.watchers: list[Callable[[], None]] = []  # callbacks that disconnect endless watchers
        self.fingerprint = ""  # equal for equal models, settings and versions
        self._processor: RequestProcessor | None = None
        replicas.streams.promise_listeners.append(self.metrics.on_promise)
        replicas.listeners.append(self._on_iteration)
        replicas.death_listeners.append(self._on_death)
        replicas.return_listeners.append(self._on_return)

    def open(self, processor: RequestProcessor) -> None:
        """Take requests from now on; the engine is ready."""
        self._processor = processor
        for engine in self.replicas.engines:
            if engine.ready is not None:
                self.metrics.engines[engine.index].on_ready(engine.ready)
        made = f"{orcinus.__version__}\0{processor.ready.revision}\0".encode() + to_wire(self.replicas.config)
        self.fingerprint = f"fp_{hashlib.sha256(made).hexdigest()[:12]}"

    def _on_iteration(self, replica: int, iteration: EngineOutput) -> None:
        self.metrics.engines[replica].on_iteration(iteration, self.replicas.streams.arrival)
        self.waits.on_iteration(iteration.seconds, iteration.running, iteration.waiting, replica)
        for ending in iteration.endings:
            finished = ending.finished
            if self.metrics.adapters is not None:
                self.metrics.adapters.on_end(ending)
            if finished.reason in COMPLETE and (answer := self.replicas.streams.progress(finished.request_id)) is not None:
                self.waits.on_end(answer)

    def keep_ledgers(self) -> None:
        """Keep the ledgers of requests from now on, for a log or traces."""
        self._keeps_ledgers = True
        self.replicas.listeners.append(self.ledgers.on_iteration)
        self.replicas.death_listeners.append(lambda death: self.ledgers.on_death(death, time.monotonic()))

    def _on_death(self, death: Death) -> None:
        self.metrics.engines[death.replica].on_death(death.requests)
        self.metrics.live.keep(lambda name: self.replicas.streams.engine_of(name) is not None)
        self.waits.on_death(death.replica, returns=death.delay is not None)

    def _on_return(self, back: Return) -> None:
        ready = self.replicas.engines[back.replica].ready
        assert ready is not None, "it serves again"
        self.metrics.engines[back.replica].on_return(ready)

    @property
    def processor(self) -> RequestProcessor:
        """The request processor. Raises `ApiError` 503 while loading."""
        if self.replicas.dead is not None:
            raise unavailable("the engine is gone", "engine_dead")
        if self._processor is None:
            raise unavailable(f"the model is loading ({self.replicas.loading.in_words})", "loading", 2)
        return self._processor

    @property
    def paused(self) -> bool:
        """Whether the engines start no iterations."""
        return self.replicas.settings.pace.paused

    @property
    def loaded(self) -> bool:
        return self._processor is not None

    async def read(self, request: Request, kind: type[Body]) -> Body:
        """The checked body of a request.

        Its unused fields are named in a header. Raises `ApiError`.
        """
        body, ignored = await read_body(request, kind, self.threads, self.body_reader, strict=self.config.strict)
        request.scope["orcinus"]["ignored"] = ignored
        return body

    @asynccontextmanager
    async def receiving(self, request: Request, kind: type[Body]) -> AsyncIterator[Body]:
        """The checked body of a request for answers, if there is room for one.

        Rejections for lack of room are counted. Raises `ApiError`.
        """
        with self.counting_rejections():
            self.admission.check_asking()  # the body may have an SLO
            yield await self.read(request, kind)

    @contextmanager
    def counting_rejections(self) -> Iterator[None]:
        """Count an `ApiError` that rejects a request for lack of room."""
        try:
            yield
        except ApiError as error:
            if error.code in REJECTIONS:
                self.metrics.rejections.labels(error.code).inc()
            raise

    def leave(self) -> None:
        """Be no longer ready. Requests are served until `drain`; each response is the last on its connection."""
        self.leaving = True

    def drain(self) -> None:
        """Refuse new requests and disconnect iteration-stream watchers."""
        self.draining = True
        for send_away in tuple(self.watchers):
            send_away()

    def check_ready(self) -> None:
        """Raises `ApiError` 503 if no new requests should be sent here."""
        if self.leaving:
            raise unavailable("the server is leaving", "draining")
        self.check_open()
        self.check_alive()
        if self.restarting:
            raise unavailable(f"the engine is being started again ({self.replicas.loading.in_words})", "restarting", 2)

    def check_open(self) -> None:
        """Raises `ApiError` 503 if no requests are taken now."""
        if self.draining:
            raise unavailable("the server is draining", "draining")
        _ = self.processor

    def explain(self, error: EngineError) -> ApiError:
        """Error 503 for a question that no engine answered: they are gone, silent, or started again."""
        if self.replicas.dead is not None:
            return unavailable("the engine is gone", "engine_dead")
        if isinstance(error, EngineSilent):
            return unavailable(f"{error}; ask again", "engine_silent", 2)
        return unavailable(f"the engine is being started again ({self.replicas.loading.in_words})", "restarting", 2)

    @property
    def restarting(self) -> bool:
        """Whether no engine serves, but one is started again: requests are taken, and wait."""
        return self.loaded and self.replicas.dead is None and not self.replicas.serving

    def check_alive(self) -> None:
        """Raises `ApiError` 503 if the engine is gone or silent."""
        _ = self.processor
        silent = self.replicas.silent_s()
        if silent is not None:
            raise unavailable(f"the engine has been silent for {silent:.0f} s", "engine_silent")

    def retry_after(self, answers: int, client: str | None = None) -> int:
        """Seconds until these answers find room.

        Among all answers, or among those of a client that has reached its own limit.
        """
        if self.paused:  # nothing ends until the server is resumed
            return PAUSED_S
        if client is not None:
            free = self.admission.bounds.of_one_request - self.admission.by_client[client]
            return self.waits.own_room(answers, free, self.replicas.streams.progress_and_owner(client))
        live, inside = self.replicas.streams.all_progress(), self.admission.answers
        return self.waits.promise(answers, self.admission.bounds.answers - inside, live, max(0, inside - len(live)))

    async def call(
        self, prefix: str, body: Sampling, context: RequestContext, prepare: Callable[[], Awaitable[Sequence[TokenizedRequest]]]
    ) -> tuple[Call, Sequence[TokenizedRequest]]:
        """Admit a request, tokenize it and queue all its answers.

        All are queued, or none. Raises `ApiError`.
        """
        self.check_open()
        count = (len(prompts_of(body)) if isinstance(body, CompletionBody) else 1) * (body.n or 1)
        where = "prompt" if isinstance(body, CompletionBody) else "messages"
        fewest = self.processor.fewest_tokens(sizes(body), where, cut=body.truncate_prompt_tokens is not None)
        ticket = self.admission.enter(
            context.client, count, fewest, where if (body.n or 1) == 1 else "n", asks=context.slo is not None
        )
        self.waits.on_enter()
        call = self.calls.open(f"{prefix}{uuid.uuid4().hex[:24]}", context.client, ticket)
        began = time.monotonic()
        try:
            prepared = await prepare()
            self.check_open()
            tokens = sum(len(one.ids) + (one.params.max_tokens or 0) for one in prepared)
            self.admission.resize(ticket, tokens, asks=context.slo is not None)
            deadlines = [one for one in (body.timeout, self.config.timeout) if one is not None]
            left = max(0.0, min(deadlines) - (time.monotonic() - began)) if deadlines else None
            await call.submit(prepared, left, self.metrics, context.slo)
            self.metrics.on_admission(prepared, call.names, self.replicas.streams.engine_of)
            if self._keeps_ledgers:
                self.ledgers.open(call.names, [len(one.ids) for one in prepared], self.replicas.streams.arrival)
        except EngineError as error:
            call.close()
            raise self.explain(error) from None
        except BaseException:
            call.close()
            raise
        return call, prepared
