"""Decoding with and without drafts: speed on texts that repeat, on texts that do not, and with drafts that are all wrong.

    python benchmarks/speculative.py [--speculative ngram:k=8] [--batches 1,2,4,8] [--rounds 7] [--geometry FOLDER]

`again` asks the bundled model questions that it answers as it did before in the conversation; `new` asks for the first time.
`wrong` proposes k tokens in every iteration, and none is right: the price of verification. With a geometry (a config.json) the
weights are random, and only `wrong` is measured. All sides take turns; figures are medians of the rounds' ratios to no drafts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from orcinus import LLM, SamplingParams
from orcinus.core.component_spec import make_drafter
from orcinus.core.ports import Drafter
from orcinus.core.request import Request

QUESTIONS = (
    "What is Orca?", "Give me a pasta idea.", "What is SARATHI?", "Tell me a story about a dragon.",
    "What is a fox?", "What is vLLM?", "How do I make tea?", "What is a KV cache?",
    "Tell me a story about a robot.", "What is a dolphin?", "Tell me about whales.", "What is attention?",
)  # fmt: skip
TOKENS = 100  # of an answer


@dataclass
class Wrong:
    """`k` drafts for every decode, none of them the token that was sampled without drafts."""

    k: int
    answers: dict[tuple[int, ...], tuple[int, ...]]

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        right = self.answers[request.prompt][len(request.output)]
        return ((right + 1) % 100,) * min(self.k, most)


def prompts(llm: LLM, text: str, batch: int) -> list[Any]:
    if llm.config.model is not None:
        return [list(range(10 * place, 10 * place + 64)) for place in range(batch)]
    chats: list[list[dict[str, str]]] = [[{"role": "user", "content": question}] for question in QUESTIONS]
    if text == "again":
        whole = SamplingParams(max_tokens=200, temperature=0)
        answers = llm.chat(chats, whole)
        chats = [[*chat, {"role": "assistant", "content": one.text}, *chat] for chat, one in zip(chats, answers, strict=True)]
        second = llm.chat(chats, whole)
        pairs = zip(chats, answers, second, strict=True)
        chats = [chat for chat, one, other in pairs if one.token_ids == other.token_ids]
    return [llm.encode_chat(chats[place % len(chats)]) for place in range(batch)]


def run(llm: LLM, asked: list[Any], drafter: Drafter | None, clock: Callable[[], float]) -> tuple[float, int, list[Any]]:
    """Seconds, iterations and outputs."""
    params = SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=llm.config.model is not None)
    scheduler = llm.engine.scheduler
    scheduler.drafter, before, began = drafter, scheduler._last_batch, clock()
    outputs = llm.generate(asked, params, progress=False)
    return clock() - began, scheduler._last_batch - before, outputs


def measure(llm: LLM, text: str, batch: int, sides: dict[str, str], rounds: int, clock: Callable[[], float]) -> None:
    """Print a line for each side."""
    asked = prompts(llm, text, batch)
    outputs = run(llm, asked, None, clock)[2]
    answers = {one.prompt_token_ids: one.token_ids for one in outputs}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    same = True
    for _ in range(rounds):
        seconds, iterations, _ = run(llm, asked, None, clock)
        for name, spelled in sides.items():
            drafter = Wrong(int(spelled), answers) if text == "wrong" else make_drafter(spelled)
            mine, fewer, outputs = run(llm, asked, drafter, clock)
            found[name].append((seconds / mine, iterations / fewer))
            same &= all(answers[one.prompt_token_ids] == one.token_ids for one in outputs)
    for name, ratios in found.items():
        speeds = sorted(speed for speed, _ in ratios)
        steps = statistics.median(step for _, step in ratios)
        low, high = speeds[len(speeds) // 4], speeds[-1 - len(speeds) // 4]
        line = f"{text:<6} batch {batch}  {name:<12} speed {statistics.median(speeds):5.2f} ({low:.2f} to {high:.2f})"
        print(f"{line}  tokens/iteration {steps:5.2f}  tokens {'equal' if same else 'DIFFER'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speculative", default="ngram", help="drafters, separated by commas")
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--wrong", default="1,2,4,8", help="numbers of wrong drafts")
    parser.add_argument("--texts", default="again,new,wrong", help="with a geometry only `wrong`")
    parser.add_argument("--geometry", help="a folder with a config.json")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--cpu-seconds", action="store_true", help="of one thread: for a machine that is shared")
    options = parser.parse_args()
    if options.cpu_seconds:
        torch.set_num_threads(1)
    clock = time.process_time if options.cpu_seconds else time.perf_counter
    made_up = {"model": options.geometry, "load_format": "dummy", "max_model_len": 512} if options.geometry else {}
    with LLM(dtype=options.dtype, **made_up) as llm:
        for text in ["wrong"] if options.geometry else options.texts.split(","):
            sides = {f"{number} wrong": number for number in options.wrong.split(",")}
            if text != "wrong":
                sides = {name: name for name in options.speculative.split(",")}
            for batch in map(int, options.batches.split(",")):
                measure(llm, text, batch, sides, options.rounds, clock)


if __name__ == "__main__":
    main()
