"""vLLM on the CPU, stepped in this process: its front end and its scheduler share the cores with the model either way."""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any

from protocol import Ids, Load, Loaded, Ran, Run, serve

GIB = 2**30


def load(asked: Load) -> tuple[Loaded, Run]:
    os.environ |= environment(asked.threads)
    import torch
    import vllm

    settings = {
        "skip_tokenizer_init": True,
        "max_num_seqs": asked.max_batch_size,
        "kv_cache_memory_bytes": 2 * GIB,
    }
    llm = vllm.LLM(asked.model, dtype=asked.dtype, max_model_len=asked.max_model_len, **settings)
    found = {"vllm": vllm.__version__, "torch": torch.__version__}
    return Loaded(found, settings | environment(asked.threads)), lambda prompts, counts: run(llm, prompts, counts)


def environment(threads: int) -> dict[str, str]:
    """One process: with its usual three, one of which is the model's, threads are more than cores and wait for each other."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_NO_USAGE_STATS": "1",
    }


def run(llm: Any, prompts: Ids, output_tokens: list[int]) -> Ran:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    greedy = {"temperature": 0.0, "ignore_eos": True, "detokenize": False, "output_kind": RequestOutputKind.DELTA}
    output_ids, times = [[] for _ in prompts], [[] for _ in prompts]
    engine, start = llm.llm_engine, perf_counter()
    for number, (prompt, count) in enumerate(zip(prompts, output_tokens, strict=True)):
        engine.add_request(str(number), {"prompt_token_ids": prompt}, SamplingParams(max_tokens=count, **greedy))
    while engine.has_unfinished_requests():
        for output in engine.step():
            fresh = output.outputs[0].token_ids
            output_ids[int(output.request_id)] += fresh
            times[int(output.request_id)] += [perf_counter() - start] * len(fresh)
    return Ran(perf_counter() - start, output_ids, times, [each[-1] for each in times])


if __name__ == "__main__":
    serve(load)
