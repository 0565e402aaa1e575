"""Hugging Face `generate`: static batches in the order of the requests, each running to its longest answer.

This is request-level scheduling: a batch starts when the one before it has ended, prompts are padded on the left, and
requests that have ended keep their row until the longest one has. Answers are cut to the length asked for.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
import transformers
from protocol import Ids, Load, Loaded, Ran, Run, serve


def load_model(asked: Load) -> Any:
    """The model on the CPU, ready to generate."""
    torch.set_num_threads(asked.threads)
    dtype = getattr(torch, asked.dtype)
    return transformers.AutoModelForCausalLM.from_pretrained(asked.model, dtype=dtype, attn_implementation="sdpa").eval()


def versions() -> dict[str, str]:
    return {"transformers": transformers.__version__, "torch": torch.__version__}


def load(asked: Load) -> tuple[Loaded, Run]:
    model, size = load_model(asked), asked.max_batch_size
    loaded = Loaded(versions(), {"attention": "sdpa", "batches": "static, in order"})
    return loaded, lambda prompts, output_tokens: run(model, size, prompts, output_tokens)


def run(model: Any, batch_size: int, prompts: Ids, output_tokens: list[int]) -> Ran:
    output_ids: Ids = []
    ended: list[float] = []
    start = perf_counter()
    for first in range(0, len(prompts), batch_size):
        batch = slice(first, first + batch_size)
        output_ids += generate(model, prompts[batch], output_tokens[batch])
        ended += [perf_counter() - start] * len(prompts[batch])
    return Ran(perf_counter() - start, output_ids, None, ended)


def generate(model: Any, prompts: Ids, output_tokens: list[int]) -> Ids:
    """One batch, and the answers cut to their lengths."""
    width, longest = max(map(len, prompts)), max(output_tokens)
    padded = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    ends = {"eos_token_id": None, "pad_token_id": 0, "max_new_tokens": longest, "min_new_tokens": longest}
    with torch.inference_mode():
        found = model.generate(padded, attention_mask=mask, do_sample=False, **ends)
    answers = found[:, width:].tolist()
    return [answer[:count] for answer, count in zip(answers, output_tokens, strict=True)]


if __name__ == "__main__":
    serve(load)
