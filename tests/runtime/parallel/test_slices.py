"""One rank's part of a model: every architecture, split over tensor ranks and stages, against one device.

Ranks are threads. A scenario of batches (chunked prompts, prompts beside decodes, decodes) runs on one device first; the ranks
are then given the same batches, so that a difference in one step does not hide behind another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from orcinus.core.batch import Batch, BatchResult, Chunk, NewRequest
from orcinus.core.request import NO_CONTEXT
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.errors import ConfigError, EngineError
from orcinus.runtime import kv_cache
from orcinus.runtime.attention import Attention, ReferenceAttention
from orcinus.runtime.checkpoint import load_model, open_checkpoint, outline, read_tensors
from orcinus.runtime.device import Device
from orcinus.runtime.dummy import fill_at_random
from orcinus.runtime.executor import Eager, TorchExecutor
from orcinus.runtime.gpu import graphs
from orcinus.runtime.gpu.graphs import Graphed
from orcinus.runtime.int8_weights import Int8Weight, largest_int8
from orcinus.runtime.models import Decoder, DecoderSpec, Factory, PlainWeight
from orcinus.runtime.parallel.collectives import ALONE, Collectives
from orcinus.runtime.parallel.mesh import WHOLE, Mesh, MeshPlace
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS
from orcinus.runtime.transfers import Link
from tests.checkpoints import (
    BASE,
    CONFIGS,
    MECHANISMS,
    MIXED,
    MIXTURE_CONFIGS,
    MIXTURES,
    MORE_CONFIGS,
    REST,
    random_model,
    save,
)
from tests.product import in_turn, part
from tests.threads_mesh import run_ranks

Made = Callable[[str], tuple[Any, Path]]
CPU = torch.device("cpu")
REFERENCE = ReferenceAttention()
DEVICE = Device(CPU, torch.float32, "exact")
SCORED = SamplingParams(temperature=0, logprobs=2, prompt_logprobs=0)
GREEDY = SamplingParams(temperature=0)
PROMPTS = {"a": tuple(range(3, 24)), "b": (5, 96, 0), "c": (9,) * 17}
BLOCKS, BLOCK_SIZE, STEPS = 12, 8, 4
TOLERANCE = 1e-4

# What the odd ones of the issue are made of: 6 query heads on 3 key/value heads, 7 layers, a vocabulary of 97.
ODD = BASE | {"num_key_value_heads": 3, "num_hidden_layers": 7}
MORE: dict[str, Callable[[], Any]] = {
    "odd-untied": lambda: hf.LlamaConfig(**ODD, attention_bias=True, mlp_bias=True),
    "odd-tied": lambda: hf.Qwen3Config(**ODD, head_dim=20, tie_word_embeddings=True),
}
NAMES = [*CONFIGS, *MORE]


@pytest.fixture(scope="session")
def folder(checkpoint: Made, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def made(name: str) -> Path:
        if name in CONFIGS | MORE_CONFIGS | MIXTURE_CONFIGS:
            return checkpoint(name)[1]
        return save(random_model(MORE[name]()), tmp_path_factory.mktemp("odd") / name)

    return made


def batches(params: SamplingParams, drawn: list[dict[str, int]]) -> list[Batch]:
    """The scenario: `drawn` are the tokens of one device, step by step, as far as they are known.

    The last batch is of the request `c` alone, whose params are given: greedy rows without log-probabilities gather no logits.
    """
    tables = {"a": (0, 1, 2, 3), "b": (4, 5), "c": (6, 7, 8)}
    new = {
        name: NewRequest(name, prompt, (), params if name == "c" else SCORED, NO_CONTEXT, (tables[name],))
        for name, prompt in PROMPTS.items()
    }
    a, b, c = PROMPTS.values()
    steps = [
        Batch(0, (Chunk("a", a[:13], 0, drafts=None, prefill=True), Chunk("b", b, 0, prefill=True)), (new["a"], new["b"])),
    ]
    if drawn:
        decode = Chunk("b", (drawn[0]["b"],), len(b))
        steps.append(Batch(1, (decode, Chunk("a", a[13:], 13, prefill=True), Chunk("c", c, 0, prefill=True)), (new["c"],)))
    lengths = {"a": len(a), "b": len(b) + 1, "c": len(c)}
    for step in range(1, min(len(drawn), STEPS - 1)):
        names = ("c",) if step == STEPS - 2 else PROMPTS
        rows = (Chunk(name, (drawn[step][name],), lengths[name] + step - 1) for name in names)
        steps.append(Batch(step + 1, tuple(rows)))
    return steps


opened = cache(open_checkpoint)


def executor(
    folder: Path,
    place: MeshPlace,
    collectives: Collectives,
    attend: Attention = REFERENCE,
    quantization: str | None = None,
) -> TorchExecutor:
    checkpoint = opened(folder)
    model = load_model(checkpoint, DEVICE, attend, quantization=quantization, place=place, collectives=collectives)
    dim = checkpoint.spec.head_dim
    kv = kv_cache.allocate(len(model.layers), BLOCKS, model.num_kv_heads, BLOCK_SIZE, dim, torch.float32, CPU)
    return TorchExecutor(model, kv, Link(CPU))


def run(executor: TorchExecutor, params: SamplingParams, drawn: list[dict[str, int]] | None = None) -> list[BatchResult]:
    """The results of all steps; without `drawn` the executor goes on with its own tokens."""
    results: list[BatchResult] = []
    own: list[dict[str, int]] = []
    for step in range(STEPS):
        batch = batches(params, own if drawn is None else drawn)[step]
        executor.submit(batch)
        results.append(executor.collect())
        tokens = zip(batch.chunks, results[-1].tokens, strict=True)
        own.append({chunk.request_id: token for chunk, found in tokens for token in found})
    return results


def tokens_of(results: list[BatchResult], params: SamplingParams) -> list[dict[str, int]]:
    drawn: list[dict[str, int]] = []
    for step, result in enumerate(results):
        chunks = batches(params, drawn)[step].chunks
        pairs = zip(chunks, result.tokens, strict=True)
        drawn.append({chunk.request_id: token for chunk, found in pairs for token in found})
    return drawn


@dataclass(frozen=True)
class Expected:
    """What one device made of the scenario."""

    results: list[BatchResult]
    drawn: list[dict[str, int]]

    @property
    def chunks(self) -> list[tuple[Chunk, ...]]:
        """Of every batch."""
        return [batch.chunks for batch in batches(SCORED, self.drawn)]

    def gap(self, step: int, row: int) -> float:
        """Between the two best logits of a row."""
        assert self.results[step].logprobs is not None
        (best, second) = self.results[step].logprobs[row][0].top  # type: ignore[index]
        return best[1] - second[1]


@pytest.fixture(scope="session")
def expected(folder: Callable[[str], Path]) -> Callable[[str], Expected]:
    @cache
    def found(name: str) -> Expected:
        results = run(executor(folder(name), WHOLE, ALONE), SCORED)
        return Expected(results, tokens_of(results, SCORED))

    return found


def refusal(spec: DecoderSpec, mesh: Mesh) -> str | None:
    """What is said of a mesh that this model cannot be split over."""
    if mesh.tp > spec.num_heads:
        return f"{spec.num_heads} query heads cannot be divided over {mesh.tp} ranks: tp must be at most {spec.num_heads}"
    if mesh.pp > spec.num_layers:
        return f"{spec.num_layers} layers cannot be shared out to {mesh.pp} stages: pp must be at most {spec.num_layers}"
    return None


MESHES = [Mesh(tp, pp) for tp in (2, 4, 1) for pp in (2, 1, 3)]


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        *in_turn(NAMES, MESHES),
        *part(
            *((name, mesh) for name, mesh in zip(MECHANISMS, (Mesh(2, 1), Mesh(2, 2), Mesh(4, 1), Mesh(2, 1)), strict=True)),
            full=[(name, mesh) for name in (*MECHANISMS, *REST) for mesh in (Mesh(2, 2), Mesh(4, 1), Mesh(6, 1))],
        ),
        *part((MIXED, Mesh(2, 1)), full=[(name, mesh) for name in (MIXED, *MIXTURES) for mesh in (Mesh(2, 2), Mesh(4, 1))]),
    ],
)
def test_ranks_compute_what_one_device_computes(
    folder: Callable[[str], Path], expected: Callable[[str], Expected], name: str, mesh: Mesh
) -> None:
    one = expected(name)
    refused = refusal(opened(folder(name)).spec, mesh)

    def work(place: MeshPlace, collectives: Collectives) -> list[BatchResult]:
        return run(executor(folder(name), place, collectives), GREEDY, one.drawn)

    if refused:
        with pytest.raises(ConfigError, match=refused):
            run_ranks(mesh, work)
        return
    ranks = run_ranks(mesh, work)
    for rank, results in enumerate(ranks):
        if mesh.at(rank).last:
            check_scores(results, one)
            check_tokens(results, one)
        else:
            assert all(not any(result.tokens) and not result.logprobs for result in results)
    last = [each for rank, each in enumerate(ranks) if mesh.at(rank).last]
    assert all(each == last[0] for each in last), "the ranks of a stage find the same bits"


def check_scores(results: list[BatchResult], one: Expected) -> None:
    """Log-probabilities of prompts and of drawn tokens are close to those of one device."""
    for chunks, found, wanted in zip(one.chunks, results, one.results, strict=True):
        scored = [row for row, chunk in enumerate(chunks) if chunk.request_id != "c"]
        for row in scored:
            mine, theirs = (result.prompt_logprobs.get(row, ()) for result in (found, wanted))
            close([each.logprob for each in mine], [each.logprob for each in theirs])
            mine, theirs = (result.logprobs[row] if result.logprobs else () for result in (found, wanted))
            close([each.top[0][1] for each in mine], [each.top[0][1] for each in theirs])


def check_tokens(results: list[BatchResult], one: Expected) -> None:
    """Greedy tokens are those of one device, unless the two best are as good as equal there."""
    for step, (found, wanted) in enumerate(zip(results, one.results, strict=True)):
        for row, tokens in enumerate(wanted.tokens):
            assert len(found.tokens[row]) == len(tokens)
            assert found.tokens[row] == tokens or one.gap(step, row) < TOLERANCE


def close(found: list[float], wanted: list[float]) -> None:
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-3)


def test_the_scenario_can_tell(expected: Callable[[str], Expected]) -> None:
    """Its log-probabilities are not all alike, and few of its rows have two best tokens."""
    for name in ("odd-untied", "gpt2"):
        one = expected(name)
        drawn = [token for step in one.drawn for token in step.values()]
        assert len(drawn) == 1 + 3 + 3 + 1
        prompts = [each.logprob for result in one.results for row in result.prompt_logprobs.values() for each in row]
        assert all(map(math.isfinite, prompts))
        assert len(set(prompts)) > 20, "every position sees something else"
        gaps = [one.gap(step, row) for step, each in enumerate(one.results) for row, found in enumerate(each.tokens) if found]
        assert sum(gap > 100 * TOLERANCE for gap in gaps) > len(gaps) / 2


def parts(name: str, folder: Callable[[str], Path], mesh: Mesh) -> list[Decoder]:
    spec = opened(folder(name)).spec
    return [outline(spec, place=mesh.at(rank)) for rank in range(mesh.size)]


def heads(model: Decoder) -> list[tuple[int, int]]:
    """Query and key/value heads of a rank, which are the same in all of its layers."""
    found = {(layer.attention.heads.num_heads, layer.attention.heads.num_kv_heads) for layer in model.layers.values()}  # type: ignore[union-attr]
    return list(found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "tp", "shares"),
    [
        ("odd-untied", 2, [(4, 2), (2, 1)]),
        ("odd-untied", 4, [(1, 1), (1, 1), (2, 1), (2, 1)]),  # the first key/value head is held by two ranks
        ("qwen2", 4, [(2, 1), (1, 1), (2, 1), (1, 1)]),
        ("qwen2", 6, [(1, 1)] * 6),
        ("llama-linear-rope-one-kv-head", 4, [(2, 1), (2, 1), (1, 1), (1, 1)]),
        ("gpt2", 3, [(2, 2), (1, 1), (1, 1)]),
    ],
)
def test_heads_are_shared_out_as_evenly_as_can_be(
    folder: Callable[[str], Path], name: str, tp: int, shares: list[tuple[int, int]]
) -> None:
    assert [heads(model) for model in parts(name, folder, Mesh(tp))] == [[each] for each in shares]


def test_ranks_hold_about_an_equal_part(folder: Callable[[str], Path]) -> None:
    """Nothing is held twice but norms, key/value heads that are fewer than ranks, and a tied head on a stage of its own."""
    for name in NAMES:
        whole = outline(opened(folder(name)).spec)
        spec = whole.spec
        norms = spec.hidden_size * 2 * 2 * len(whole.layers) + 8 * spec.hidden_size
        key_and_value = sum(spec.qkv_sizes[1:]) * (spec.hidden_size + 1) * spec.num_layers if spec.num_kv_heads == 1 else 0
        ranks = [model.num_parameters for model in parts(name, folder, Mesh(2))]
        assert whole.num_parameters <= sum(ranks) <= whole.num_parameters + norms + key_and_value
        assert max(ranks) < 0.67 * whole.num_parameters + norms, name
        stages = [model.num_parameters for model in parts(name, folder, Mesh(1, 2))]
        assert sum(stages) == whole.num_parameters + (spec.vocab_size * spec.hidden_size if spec.tied else 0)


@pytest.mark.parametrize("name", part("gpt2", "odd-untied", full=["qwen3", MIXED]))
def test_a_rank_reads_its_own_part_alone(folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked: list[set[str]] = []

    def watched(where: Path, wanted: Any) -> Any:
        asked.append(set(wanted))
        return read_tensors(where, wanted)

    monkeypatch.setattr("orcinus.runtime.checkpoint.read_tensors", watched)
    checkpoint = opened(folder(name))
    mesh, totals = Mesh(2, 2), []
    for rank in range(mesh.size):
        heard: list[tuple[int, int]] = []
        place = mesh.at(rank)
        load_model(checkpoint, DEVICE, REFERENCE, progress=lambda *told: heard.append(told), place=place)  # noqa: B023
        done, total = heard[-1]
        assert done == total == 4 * parts(name, folder, mesh)[rank].num_parameters
        totals.append(total)
    whole = 4 * outline(checkpoint.spec).num_parameters
    assert max(totals) < 0.45 * whole
    assert not asked[0] & asked[2] - {"model.embed_tokens.weight", "transformer.wte.weight"}, "layers of another stage"


@pytest.mark.parametrize("name", part("gpt2", "llama-biases-yarn", full=["odd-tied", MIXED]))
def test_made_up_weights_of_ranks_are_those_of_one_device(folder: Callable[[str], Path], name: str) -> None:
    whole = load_plain(folder(name), WHOLE)
    mesh = Mesh(2, 2)
    seen: dict[str, list[tuple[tuple[slice, ...], torch.Tensor]]] = {}
    for rank in range(mesh.size):
        mine = load_plain(folder(name), mesh.at(rank))
        for parameter, tensor in whole.tensors().items():
            for piece in mine.pieces(parameter):
                assert torch.equal(piece.target, tensor[piece.region])
                seen.setdefault(parameter, []).append((piece.region, piece.target))
    for parameter, tensor in whole.tensors().items():
        covered = torch.zeros_like(tensor)
        for region, _ in seen[parameter]:
            covered[region] = 1
        assert covered.all(), parameter


def load_plain(folder: Path, place: MeshPlace) -> Decoder:
    """A made-up model whose weights have not been packed."""
    spec = opened(folder).spec
    model = Decoder(spec, REFERENCE, Factory(CPU, torch.float32, place=place))
    fill_at_random(model, outline(spec))
    return model


def test_a_tied_head_on_a_stage_of_its_own_is_complete_with_its_matrix(folder: Callable[[str], Path]) -> None:
    """Its bias may be read first."""
    spec, complete = opened(folder("phi2-tied")).spec, list[str]()
    model = Decoder(spec, REFERENCE, Factory(CPU, torch.float32, place=Mesh(1, 2).at(1)))
    filled = model.process_when_filled(["head.bias", "embed.weight"], lambda name, linear: complete.append(name))
    filled("head.bias")
    assert complete == []
    filled("embed.weight")
    assert complete == ["head"]


def test_the_weights_of_the_whole_checkpoint_are_checked(folder: Callable[[str], Path]) -> None:
    """What another stage misses is told by every rank."""
    checkpoint = opened(folder("qwen2"))
    longer = replace(checkpoint.spec, scales=checkpoint.spec.scales * 2, windows=(None,) * 6, rotary=(0,) * 6)
    for rank in range(2):
        with pytest.raises(ConfigError, match=r"weights are missing .*: model.layers.3.input_layernorm.weight"):
            load_model(replace(checkpoint, spec=longer), DEVICE, REFERENCE, place=Mesh(1, 2).at(rank))


@pytest.mark.parametrize("name", part("gpt2", full=["odd-tied"]))
def test_ranks_draw_the_tokens_of_one_device(
    folder: Callable[[str], Path], expected: Callable[[str], Expected], name: str
) -> None:
    """Seeds, filters, biases and penalties of a request work on gathered logits."""
    one, path = expected(name), folder(name)
    for params in (SamplingParams(seed=3, top_p=0.9), SamplingParams(seed=5, repetition_penalty=1.5, logit_bias={7: 2.0})):
        alone = [result.tokens for result in run(executor(path, WHOLE, ALONE), params, one.drawn)]

        def work(place: MeshPlace, collectives: Collectives, params: SamplingParams = params) -> list[BatchResult]:
            return run(executor(path, place, collectives), params, one.drawn)

        for results in run_ranks(Mesh(2), work):
            assert [result.tokens for result in results] == alone


def test_a_rank_that_fails_ends_its_peers(folder: Callable[[str], Path]) -> None:
    """Alone it would fail its batch; here the others wait for it."""

    path = folder("qwen2")

    def work(place: MeshPlace, collectives: Collectives) -> list[BatchResult]:
        mine = executor(path, place, collectives)
        if place.rank == 1:
            mine.run = failing  # type: ignore[assignment]
        return run(mine, GREEDY, [{"a": 1, "b": 1, "c": 1}] * STEPS)

    def failing(*batch: object) -> None:
        raise MemoryError("too large for this rank")

    with pytest.raises((MemoryError, EngineError)):
        run_ranks(Mesh(2), work)


def best(results: list[BatchResult]) -> torch.Tensor:
    """The best log-probability of every row."""
    return torch.tensor([score.top[0][1] for result in results for row in result.logprobs or () for score in row])


@pytest.mark.skipif(not largest_int8(), reason="this torch or processor has no products of 8-bit integers")
def test_quantised_ranks_are_as_close_as_one_quantised_device(
    folder: Callable[[str], Path], expected: Callable[[str], Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank's rows have scales of their own, so that equal bits are not to be had."""
    monkeypatch.setitem(QUANTIZED_WEIGHTS, "int8", Int8Weight)
    made, exact = folder("odd-tied"), expected("odd-tied")
    with torch.inference_mode():
        one = best(run(executor(made, WHOLE, ALONE, quantization="int8"), SCORED, exact.drawn))

    def work(place: MeshPlace, collectives: Collectives) -> list[BatchResult]:
        with torch.inference_mode():
            return run(executor(made, place, collectives, quantization="int8"), SCORED, exact.drawn)

    wanted = best(exact.results)
    error = (one - wanted).abs().mean()
    assert error > 0
    for results in run_ranks(Mesh(2), work):
        assert (best(results) - wanted).abs().mean() < 1.5 * error
        assert (best(results) - one).abs().max() < 0.3


def test_equal_logits_give_the_lowest_id_on_ranks_too(folder: Callable[[str], Path]) -> None:
    path = folder("qwen2")

    def work(place: MeshPlace, collectives: Collectives) -> list[BatchResult]:
        mine = executor(path, place, collectives)
        assert mine.model.head is not None
        weight = torch.zeros(mine.model.head.weight.shape)
        mine.model.head.weight = PlainWeight(weight, mine.model.head.weight.split)
        return run(mine, GREEDY, [{"a": 1, "b": 1, "c": 1}] * STEPS)

    for results in run_ranks(Mesh(4), work):
        assert {token for result in results for tokens in result.tokens for token in tokens} == {0}


def test_rows_that_are_not_finite_fail_alone_on_ranks_too(folder: Callable[[str], Path]) -> None:
    path = folder("qwen2")

    def work(place: MeshPlace, collectives: Collectives) -> list[BatchResult]:
        mine = executor(path, place, collectives)
        assert mine.model.embed is not None
        if 96 in mine.model.embed.rows:
            mine.model.embed.weight[96 - mine.model.embed.rows.start] = math.nan  # a token of the prompt b alone
        return run(mine, GREEDY, [{"a": 1, "b": 1, "c": 1}] * STEPS)

    for results in run_ranks(Mesh(4), work):
        assert [sorted(result.errors) for result in results] == [[1], [0], [1], []]


class Recorder:
    """Records a function as a CUDA graph would: its result stays where it is, and a replay fills it again."""

    def __init__(self) -> None:
        self.played = 0

    def __call__(self, work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, Callable[[], None]]:
        result = work().clone()

        def replay() -> None:
            self.played += 1
            result.copy_(work())

        return result, replay


class Capturable(ReferenceAttention):
    """What says that graphs may record it, as a kernel does."""

    captures_decodes = captures_chunks = True


def test_stages_hand_on_what_captured_graphs_compute(
    folder: Callable[[str], Path], expected: Callable[[str], Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stage has other sizes than the second: hidden states travel without padding."""
    monkeypatch.setattr(graphs, "CHUNK_ROWS", (32,))
    one, path = expected("qwen2"), folder("qwen2")

    def work(place: MeshPlace, collectives: Collectives) -> list[BatchResult]:
        mine = executor(path, place, collectives, Capturable())
        assert isinstance(mine.run, Eager)
        graphed = Graphed(mine.run, Limits(8, 64, 64), Recorder())
        if place.first:
            for shape in ((8, 32), (8, 0)):
                graphed.graphs[shape] = graphed._record(graphed._shape(*shape))
            graphed.captured = {32: [8], 0: [8]}
        else:
            graphed.graphs[2, 32] = graphed._record(graphed._shape(2, 32))
            graphed.captured = {32: [2]}
        mine.run = graphed
        results = run(mine, GREEDY, one.drawn)
        assert isinstance(graphed._capture, Recorder)
        assert graphed._capture.played == (STEPS if place.first else 2)
        return results

    check_tokens(run_ranks(Mesh(1, 2), work)[1], one)
