"""Prints the kernels that iterations had to load or compile after the engine was ready, in a fresh process."""

from __future__ import annotations

import gc

from numba.core.dispatcher import Dispatcher

from orcinus import LLM, SamplingParams

GREEDY = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
LONG = list(range(5, 300))


def compiled() -> set[str]:
    """Kernels with the types that they are compiled for, by now, in this process."""
    kernels = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {f"{kernel.py_func.__qualname__}{types}" for kernel in kernels for types in kernel.overloads}


def main() -> None:
    for settings in ({"dtype": "float32"}, {"dtype": "bfloat16"}, {"quantization": "int8"}):
        with LLM(**settings, max_batch_size=8) as llm:  # type: ignore[arg-type]
            before = compiled()
            for prompts in ([[1]], [LONG], [LONG, [1, 2], LONG[:70]], [LONG] * 8):
                llm.generate(prompts, GREEDY)
            llm.generate([LONG[:9]] * 3, SamplingParams(max_tokens=4, seed=1, top_p=0.9, top_k=20, logprobs=2))
        for kernel in sorted(compiled() - before):
            print(settings, kernel)


if __name__ == "__main__":
    main()
