"""Sizes of all sections: full ones for a device, toys for a CPU."""

from __future__ import annotations

from dataclasses import dataclass

from on_gpu.geometry import LLAMA, QWEN, TOY_LLAMA, TOY_QWEN, Geometry

GB = 10**9
MB = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests whose lengths are uniform, and an engine for them. Lengths are in tokens, both ends included."""

    requests: int
    prompts: tuple[int, int]
    outputs: tuple[int, int]
    max_batch_size: int
    max_model_len: int
    max_batch_tokens: int
    policy: str = "stall-free:token_budget=2048"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Every size of every section."""

    dtype: str  # of models and of measurements
    models: tuple[Geometry, Geometry]  # the small one, on which workloads run, and the large one
    measure_s: float  # what the measurement of one figure takes, about
    turns: int  # the most that each side has
    ring_bytes: int  # data that a figure is measured on: more than caches hold
    most_bytes: int  # what does not fit is left out
    copy_bytes: int
    gemm_side: int
    gemm_rows: tuple[int, ...]
    kernel_dtypes: tuple[str, ...]
    head_dims: tuple[int, ...]
    groups: tuple[int, ...]
    chunks: tuple[tuple[int, int], ...]  # (tokens before, tokens): a mixed batch for the kernels, (0, 0) is padding
    decodes: tuple[tuple[int, int], ...]
    window: int
    vocab: int
    rows: int  # of everything else that the kernels are checked on
    tune_requests: int
    tune_context: int
    batches: tuple[int, ...]  # of decodes, for attention
    contexts: tuple[int, ...]
    prompt_chunks: tuple[int, ...]
    prompt_contexts: tuple[int, ...]  # tokens before the chunk
    fused_rows: tuple[int, ...]
    iteration_batches: tuple[int, ...]
    iteration_contexts: tuple[int, ...]
    iterations: int
    iteration_prompts: tuple[int, ...]
    workload: Load
    golden_prompts: tuple[int, ...]  # their lengths
    golden_tokens: int


FULL = Sizes(
    dtype="bfloat16",
    models=(QWEN, LLAMA),
    measure_s=0.25,
    turns=50,
    ring_bytes=256 * MB,
    most_bytes=100 * GB,
    copy_bytes=4 * GB,
    gemm_side=8192,
    gemm_rows=(1, 64, 256, 2048, 8192),
    kernel_dtypes=("bfloat16", "float16", "float32"),
    head_dims=(128, 64, 80, 96, 192, 256),
    groups=(2, 4, 1, 8, 3, 7, 5, 6),
    chunks=((0, 1), (700, 1), (33, 1), (0, 0), (9, 4), (0, 190), (300, 130), (1023, 17), (64, 64)),
    decodes=((4999, 1), (0, 1), (0, 0), (700, 1), (31, 1)),
    window=150,
    vocab=151_936,
    rows=67,
    tune_requests=64,
    tune_context=2048,
    batches=(1, 4, 16, 64, 256),
    contexts=(512, 2048, 8192, 32_768),
    prompt_chunks=(512, 2048, 8192),
    prompt_contexts=(0, 8192),
    fused_rows=(1, 8, 64, 256, 2048),
    iteration_batches=(1, 8, 64, 256),
    iteration_contexts=(512, 2048),
    iterations=40,
    iteration_prompts=(2048, 8192),
    workload=Load(
        requests=256,
        prompts=(100, 1024),
        outputs=(100, 1024),
        max_batch_size=256,
        max_model_len=2048,
        max_batch_tokens=8192,
    ),
    golden_prompts=(1, 17, 64, 200),
    golden_tokens=64,
)

TOY = Sizes(
    dtype="float32",
    models=(TOY_QWEN, TOY_LLAMA),
    measure_s=0.02,
    turns=1,
    ring_bytes=4000,
    most_bytes=MB,
    copy_bytes=MB,
    gemm_side=64,
    gemm_rows=(1, 8),
    kernel_dtypes=("float32",),
    head_dims=(64, 80),
    groups=(2, 3),
    chunks=((0, 1), (33, 1), (0, 0), (9, 4), (0, 19)),
    decodes=((600, 1), (0, 0), (31, 1)),
    window=7,
    vocab=5000,
    rows=2,
    tune_requests=2,
    tune_context=16,
    batches=(1, 3),
    contexts=(24,),
    prompt_chunks=(8,),
    prompt_contexts=(0, 16),
    fused_rows=(2,),
    iteration_batches=(1, 2),
    iteration_contexts=(16, 32),
    iterations=4,
    iteration_prompts=(24,),
    workload=Load(
        requests=6, prompts=(4, 20), outputs=(4, 12), max_batch_size=4, max_model_len=64, max_batch_tokens=128,
    ),
    golden_prompts=(1, 9),
    golden_tokens=6,
)  # fmt: skip
