"""`orcinus generate`: prompts in, answers out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import typer

from orcinus.cli.engine import ADAPTER, adapter_to_use, check_takes_text, engine
from orcinus.cli.options import takes_answer_form, takes_engine, takes_sampling
from orcinus.cli.prompts import as_messages, read_prompts
from orcinus.cli.terminal_text import harmless
from orcinus.config import EngineConfig
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestFailed, plural


@takes_answer_form()
@takes_sampling(temperature=0.0)  # on a command line, equal commands give equal answers
@takes_engine()
def generate(
    prompts: Annotated[list[str] | None, typer.Argument(help="Prompts. Without any: --file, or standard input.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", help="Read prompts from a file, one per line; - = standard input.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the model's chat template.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per prompt: text, tokens, reason, times.")] = False,
    adapter: Annotated[str | None, typer.Option("--adapter", metavar="NAME", help=ADAPTER)] = None,
    *,
    config: EngineConfig,
    params: SamplingParams,
    form: StructuredOutputs | None,
) -> None:
    """Answer prompts and print the text as it comes.

    All prompts are served together, and printed in their order. A model with a chat template answers each as a user's
    message; --raw continues it instead. Example: `orcinus generate "What is Orca?"`
    """
    texts = read_prompts(prompts or [], file)
    params, lora = replace(params, structured_outputs=form), adapter_to_use(config, adapter)
    check_takes_text(config)
    with engine(config) as llm:
        ready = as_messages(llm, texts, raw)
        if as_json:
            _print_json(llm, texts, ready, params, lora)
        else:
            _print_text(llm, texts, ready, params, lora)


def _print_json(llm: Any, texts: list[str], prompts: list[Any], params: SamplingParams, lora: str) -> None:
    failure = None
    try:
        outputs: Any = llm.generate(prompts, params, lora=lora)
    except RequestFailed as error:
        outputs, failure = error.outputs, error
    for text, output in zip(texts, outputs, strict=True):
        times = output.metrics
        record = {
            "prompt": text,
            "text": output.text,
            "token_ids": output.token_ids,
            "finish_reason": output.finish_reason,
            "usage": {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(output.token_ids)},
            "ttft_s": times.ttft,
            "e2e_s": times.e2e,
        }
        print(json.dumps(record | ({"error": output.error} if output.error else {}), ensure_ascii=False))
    if failure:
        raise failure


def _print_text(llm: Any, texts: list[str], prompts: list[Any], params: SamplingParams, lora: str) -> None:
    errors = []
    for index, piece in _in_order(llm.stream(prompts, params, lora=lora), len(prompts)):
        if piece is None:
            print(
                f"{'' if index == 0 else chr(10)}> {texts[index]}" if len(texts) > 1 else "", end="\n" if len(texts) > 1 else ""
            )
            continue
        print(harmless(piece.text), end="", flush=True)
        if piece.finish_reason:
            print()
        if piece.error:
            errors.append(piece.error)
    if errors:
        raise RequestFailed(f"{len(errors)} of {plural(len(prompts), 'request')} failed: {errors[0]}")


def _in_order(pieces: Iterator[Any], count: int) -> Iterator[tuple[int, Any]]:
    """Pieces of text, prompt by prompt; None opens each prompt."""
    kept: dict[int, list[Any]] = defaultdict(list)
    turn = 0
    yield turn, None
    for piece in pieces:
        kept[piece.index].append(piece)
        while turn < count and kept[turn]:
            waiting = kept.pop(turn)
            for one in waiting:
                yield turn, one
            if waiting[-1].finish_reason is None:
                break
            turn += 1
            if turn < count:
                yield turn, None
