"""The GPU's executor on a CPU, its kernels interpreted: batches follow one another, and every text is as it was."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, SamplingParams, StructuredOutputs
from orcinus.core.batch import Batch
from orcinus.errors import ConfigError, RequestFailed
from orcinus.runtime.batch_columns import BatchColumns
from orcinus.tiny import MODEL_DIR
from tests.checkpoints import make_model, save
from tests.contracts.test_every_model import generated
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]
SIZES = {"max_batch_size": 3, "block_size": 4, "max_model_len": 24, "dtype": "float32", "attention": "triton"}
PROMPTS = [[11], [5, 9, 2, 40, 77, 3, 3], [60, 8]]  # few and short: interpreted kernels take a thousand times as long


# For the kernels: rotation; in full also windows, head norms and layers without rotation. Below: learned positions and biases.
DIFFERENT = part(
    "llama3-rope-tied-odd-heads",
    full=["gpt2", "mistral-sliding-window", "qwen2", "qwen3", "smollm3-some-layers-without-rope"],
)


@pytest.mark.parametrize("name", DIFFERENT)
def test_greedy_tokens_equal_transformers(name: str, checkpoint: Made) -> None:
    model, folder = checkpoint(name)
    with LLM(folder, policy="stall-free:token_budget=5", **SIZES) as llm:
        assert (llm.engine.executor.depth, llm.engine.executor.overlap) == (2, (True, True))
        outputs = llm.generate(PROMPTS, SamplingParams(max_tokens=3, temperature=0))
    assert [list(output.token_ids) for output in outputs] == [generated(model, prompt, 3) for prompt in PROMPTS]


WORLDS = part(("stall-free", "paged"), full=[("orca", "prefix-cache"), ("orca", "paged"), ("fastertransformer", "max-length")])


@pytest.mark.parametrize(("policy", "kv"), WORLDS)
def test_policies_and_managers(policy: str, kv: str, checkpoint: Made) -> None:
    """Stop tokens end texts one step late, memory is tight, and rows are drawn: the texts are those of the CPU.

    (That every one of them plans batches which follow is in tests/contracts.)
    """
    folder = checkpoint("gpt2-scaled-by-layer-untied")[1]
    prompts = [*PROMPTS, [1, 2, 3]]
    params = [SamplingParams(max_tokens=3 + row, temperature=row % 2, seed=row, stop_token_ids=(5, 50)) for row in range(4)]
    texts = []
    for attention in ("reference", "triton"):
        with LLM(folder, policy=policy, kv=kv, num_blocks=6, **SIZES | {"attention": attention}) as llm:
            texts.append([output.token_ids for output in llm.generate(prompts, params)])
            assert llm.engine.scheduler.kv.num_free == 6
    assert texts[0] == texts[1]


@pytest.mark.full
def test_masks_look_back_at_the_right_tokens(checkpoint: Made) -> None:
    """Batches follow one another here, but not where a bad word of several tokens has to see the one before."""
    folder = checkpoint("gpt2-scaled-by-layer-untied")[1]
    with LLM(folder, **SIZES | {"attention": "reference"}) as llm:
        free = [output.token_ids for output in llm.generate(PROMPTS, SamplingParams(max_tokens=4, temperature=0))]
    words = [(one[:2], one[1:3]) for one in free[:2]]
    params = [SamplingParams(max_tokens=4, temperature=0, bad_words_token_ids=two) for two in words]
    params.append(SamplingParams(max_tokens=4, seed=2, allowed_token_ids=(3, 9, 50, *free[2])))
    texts = []
    for attention in ("reference", "triton"):
        with LLM(folder, **SIZES | {"attention": attention}) as llm:
            texts.append([output.token_ids for output in llm.generate(PROMPTS, params)])
    assert texts[0] == texts[1]
    assert all(ours[0] == plain[0] and ours[1] != plain[1] for ours, plain in zip(texts[0][:2], free, strict=False))


def test_grammars_hold_where_batches_follow_one_another(tmp_path: Path) -> None:
    """A row with a grammar waits for its token; the row beside it does not, and its text is the same."""
    config = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 16, "intermediate_size": 16, "head_dim": 16, "num_attention_heads": 1, "num_key_value_heads": 1}
    config |= {"num_hidden_layers": 1, "layer_types": ["full_attention"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(MODEL_DIR / name, tmp_path)
    form = StructuredOutputs(regex="[ab]{2}-[0-9]")
    params = [SamplingParams(max_tokens=8, seed=1, structured_outputs=form), SamplingParams(max_tokens=4, seed=2)]
    texts = []
    for attention in ("reference", "triton"):
        with LLM(tmp_path, load_format="dummy", **SIZES | {"attention": attention}) as llm:
            texts.append([output.text for output in llm.generate(["A", "B"], params)])
    assert texts[0] == texts[1]
    assert re.fullmatch("[ab]{2}-[0-9]", texts[0][0])


def test_prompts_are_scored_and_log_probabilities_told(checkpoint: Made) -> None:
    folder = checkpoint("gpt2-scaled-by-layer-untied")[1]
    params = SamplingParams(max_tokens=3, temperature=0, logprobs=2, prompt_logprobs=1)
    told = []
    for attention in ("reference", "triton"):
        with LLM(folder, policy="sarathi:chunk_size=4", **SIZES | {"attention": attention}) as llm:
            outputs = llm.generate(PROMPTS, params)
        told.append([one for output in outputs for one in (*(output.prompt_logprobs or ())[1:], *(output.logprobs or ()))])
    for ours, theirs in zip(*told, strict=True):
        assert ours.rank == theirs.rank
        assert [token for token, _ in ours.top] == [token for token, _ in theirs.top]
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


@pytest.mark.parametrize("attention", ["reference", "triton"])
def test_of_equally_likely_tokens_the_chosen_one_stands_first(attention: str, tmp_path: Path) -> None:
    """Of answers and prompts. Every row of the head stands in it four times, so every token has three equals."""
    model = make_model("gpt2-scaled-by-layer-untied")
    head = model.lm_head.weight.data
    size = len(head) // 4 * 4
    head[:size] = head[: size // 4].repeat_interleave(4, dim=0)
    kept = tuple(range(size))
    with LLM(save(model, tmp_path), **SIZES | {"attention": attention}) as llm:
        for temperature in (0, 0.3):
            params = SamplingParams(max_tokens=2, temperature=temperature, seed=1, logprobs=3, prompt_logprobs=2)
            for output in llm.generate(PROMPTS, replace(params, allowed_token_ids=kept)):
                told = [*zip(output.token_ids, output.logprobs or (), strict=True)]
                told += zip(output.prompt_token_ids[1:], (output.prompt_logprobs or ())[1:], strict=True)
                for token, found in told:
                    assert found is not None
                    likelier = sum(value > found.logprob for _, value in found.top)
                    assert likelier == min(found.rank - 1, len(found.top))
                    if found.rank <= len(found.top):
                        assert found.top[found.rank - 1] == (token, found.logprob)
                assert temperature or all(found.rank == 1 for found in output.logprobs or ())


def launched(llm: LLM) -> list[tuple[str, int]]:
    """What the executor does from now on, in its order."""
    story: list[tuple[str, int]] = []
    executor: Any = llm.engine.executor
    submit, collect = executor.submit, executor.collect

    def telling_submit(batch: Batch) -> None:
        story.append(("launch", batch.id))
        submit(batch)

    def telling_collect() -> Any:
        result = collect()
        story.append(("result", result.batch_id))
        return result

    executor.submit, executor.collect = telling_submit, telling_collect
    return story


def test_a_batch_is_launched_before_the_one_before_is_back(checkpoint: Made) -> None:
    with LLM(checkpoint("gpt2-scaled-by-layer-untied")[1], **SIZES) as llm:
        story = launched(llm)
        llm.generate([[1, 2, 3]], SamplingParams(max_tokens=4, temperature=0, ignore_eos=True))
    first = story[0][1]
    kinds = [(kind, number - first) for kind, number in story]
    assert kinds == [
        ("launch", 0), ("launch", 1), ("result", 0), ("launch", 2), ("result", 1), ("launch", 3), ("result", 2), ("result", 3)
    ]  # fmt: skip


def test_a_failed_batch_spares_requests_that_came_later(checkpoint: Made) -> None:
    """The batch behind a failed one was planned before the failure: requests that joined in it are served."""
    folder = checkpoint("gpt2-scaled-by-layer-untied")[1]
    params = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    with LLM(folder, policy="sarathi:chunk_size=4", **SIZES) as llm:
        clean = llm.generate([[4, 5, 6]], params)[0].token_ids
        executor: Any = llm.engine.executor
        run, calls = executor.run, list[BatchColumns]()

        def fail_once(columns: BatchColumns, *rest: Any) -> Any:
            calls.append(columns)
            if len(calls) == 1:
                raise RuntimeError("boom")
            return run(columns, *rest)

        executor.run = fail_once
        with pytest.raises(RequestFailed, match="1 of 2 requests failed: the iteration failed: RuntimeError: boom") as caught:
            llm.generate([[1, 2, 3, 7], [4, 5, 6]], params)
        assert caught.value.outputs[1].token_ids == clean  # type: ignore[attr-defined]
        executor.run = run
        assert llm.generate([[4, 5, 6]], params)[0].token_ids == clean
        assert llm.engine.scheduler.kv.num_free == llm.engine.scheduler.kv.num_blocks


def test_memory_that_is_short_costs_one_request_while_batches_follow(checkpoint: Made) -> None:
    params = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    with LLM(checkpoint("gpt2-scaled-by-layer-untied")[1], policy="orca", **SIZES) as llm:
        clean = llm.generate([[4, 5, 6]], params)[0].token_ids
        executor: Any = llm.engine.executor
        run = executor.run

        def limited(columns: BatchColumns, *rest: Any) -> Any:
            if sum(columns.counts) > 6:
                raise MemoryError
            return run(columns, *rest)

        executor.run = limited
        with pytest.raises(RequestFailed, match="1 of 2 requests failed: memory was short") as caught:
            llm.generate([list(range(9)), [4, 5, 6]], params)
        assert caught.value.outputs[1].token_ids == clean  # type: ignore[attr-defined]


def test_kernels_need_a_gpu_or_the_interpreter(checkpoint: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint("gpt2-scaled-by-layer-untied")[1]
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ConfigError, match="'triton' needs device cuda, or TRITON_INTERPRET=1"):
        LLM(folder, attention="triton")
    monkeypatch.setattr("orcinus.runtime.kernels.available", lambda: False)
    with pytest.raises(ConfigError, match="'triton' needs triton, which is not installed"):
        LLM(folder, attention="triton")


def test_graphs_are_turned_off_only_where_there_are_any(checkpoint: Made) -> None:
    with pytest.raises(ConfigError, match="enforce_eager is for GPUs"):
        LLM(checkpoint("gpt2-scaled-by-layer-untied")[1], enforce_eager=True)
