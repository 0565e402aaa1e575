"""Orcinus by the protocol of the peers, with its defaults but for the limits that all share."""

from __future__ import annotations

import os
from time import perf_counter

import torch
from protocol import Ids, Load, Loaded, Ran, Run, serve

from orcinus import LLM, SamplingParams, __version__


def load(asked: Load) -> tuple[Loaded, Run]:
    torch.set_num_threads(asked.threads)
    llm = LLM(
        asked.model,
        dtype=asked.dtype,
        device="cpu",
        quantization=asked.quantization,
        max_batch_size=asked.max_batch_size,
        max_model_len=asked.max_model_len,
    )
    quantized = {"quantization": asked.quantization} if asked.quantization else {}
    settings = quantized | {"policy": str(llm.config.policy), "kv": llm.config.kv, "attention": llm.resolved.attention}
    versions = {"orcinus": __version__, "torch": torch.__version__}
    return Loaded(versions, settings), lambda prompts, output_tokens: run(llm, prompts, output_tokens)


def run(llm: LLM, prompts: Ids, output_tokens: list[int]) -> Ran:
    params = [SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True) for count in output_tokens]
    output_ids, times = [[] for _ in prompts], [[] for _ in prompts]
    start = perf_counter()
    for piece in llm.stream(prompts, params):
        if piece.token_id is not None:
            output_ids[piece.index].append(piece.token_id)
            times[piece.index].append(perf_counter() - start)
    seconds = perf_counter() - start
    return Ran(seconds, output_ids, times, [each[-1] for each in times])


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    serve(load)
