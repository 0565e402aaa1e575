"""The options of an engine (EngineConfig) and what follows from them (Resolved)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

from orcinus.core.ports import Policy
from orcinus.core.view import Limits
from orcinus.errors import ConfigError

PAPERS = {  # the pairs that the papers describe or compare with
    "fastertransformer": ("fastertransformer", "max-length"),
    "orca": ("orca", "reservation"),
    "vllm": ("prefill-first", "paged"),
    "sarathi": ("sarathi", "reservation"),
    "sarathi-serve": ("stall-free:token_budget=512", "paged"),
}
WORDS = (  # field, its types, their description
    ("model", str | Path, "a folder or a repository's name"),
    ("revision", str, "a branch, a tag or a commit"),
    ("record", str | Path, "a file to write"),
    ("ray_address", str, "host:port, or auto"),
)
TYPES: tuple[tuple[tuple[str, ...], type, str], ...] = (  # fields, their type, its description
    (
        ("load_format", "model_impl", "order", "kv", "speculative", "dtype", "kv_cache_dtype", "device", "attention"),
        str,
        "a string",
    ),
    (("enforce_eager", "deterministic", "merge_lora"), bool, "True or False"),
    (("seed",), int, "a whole number"),
)
COUNTS = (
    "max_batch_size",
    "max_batch_tokens",
    "max_model_len",
    "block_size",
    "kv_memory_mib",
    "num_blocks",
    "tp",
    "pp",
    "threads",
)
# Names and folders (or hub names) of LoRA adapters; a config keeps pairs, and takes name=path, too.
Adapters: TypeAlias = "Mapping[str, str | Path] | Sequence[str | Sequence[str]]"
LOAD_FORMATS = ("auto", "dummy")  # as in vLLM
QUANTIZATIONS = ("int8", "int4")  # the more exact one first
PLAIN = "none"  # instead of one of them
KV_CACHE_DTYPES = ("auto", "int8")
MODEL_IMPLS = ("auto", "orcinus", "transformers")  # as in vLLM
LAUNCHERS = ("local", "ray")


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A config field; `doc` and limits feed the command line.

    `limits` are min, max, and so on.
    """
    return field(default=default, metadata={"doc": doc, **limits})


def take_paper(config: Any) -> None:
    """Replace a paper's name by its policy and K/V manager. Raises `ConfigError`."""
    if config.paper is None:
        return
    if config.paper not in PAPERS:
        raise ConfigError(f"unknown paper {config.paper!r}: choose {', '.join(PAPERS)}")
    usual = type(config).__dataclass_fields__
    for name, value in zip(("policy", "kv"), PAPERS[config.paper], strict=True):
        if getattr(config, name) not in (usual[name].default, value):
            raise ConfigError(f"paper {config.paper!r} says which {name} to use: leave one of them out")
        object.__setattr__(config, name, value)


def dtype_name(dtype: Any) -> Any:
    """The usual name of a dtype; returns other values unchanged."""
    name = str(dtype) if type(dtype).__module__ == "torch" else dtype
    if not isinstance(name, str):
        return dtype
    name = name.removeprefix("torch.")
    return {"half": "float16", "float": "float32", "double": "float64"}.get(name, name)


def adapter_pairs(given: Any) -> tuple[tuple[str, str], ...]:
    """Names and paths of adapters. Raises `ConfigError` if they are not given so."""
    listed = list(given.items()) if isinstance(given, Mapping) else [given] if isinstance(given, str) else list(given or ())
    pairs: list[tuple[str, str]] = []
    for one in listed:
        pair = one.split("=", 1) if isinstance(one, str) else list(one)
        if len(pair) != 2 or not all(isinstance(word, str | Path) and str(word) for word in pair):
            raise ConfigError(f"lora must be name=path, not {one!r}: a name for requests, and a folder or a hub repository")
        name = str(pair[0])
        if not name.isprintable() or any(sign.isspace() for sign in name):
            raise ConfigError(f"an adapter cannot have the name {name!r}: give it one without blanks and control characters")
        if name in dict(pairs):
            raise ConfigError(f"two adapters have the name {name!r}: give each its own")
        pairs.append((name, str(pair[1])))
    return tuple(pairs)


def _check_adapters(config: EngineConfig) -> None:
    if config.merge_lora and len(config.lora) != 1:
        raise ConfigError(f"merge_lora is for one adapter, and there are {len(config.lora)}: give lora once, or leave it out")
    if config.merge_lora and config.load_format == "dummy":
        raise ConfigError("merge_lora is for a checkpoint's weights: leave it out, or load_format dummy")


def _check_share(share: float | None) -> None:
    if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1):
        raise ConfigError(f"gpu_memory_utilization must be above 0 and at most 1, not {share!r}")


def _check_weights(config: EngineConfig) -> None:
    if config.load_format not in LOAD_FORMATS:
        raise ConfigError(f"unknown load_format {config.load_format!r}: choose {' or '.join(LOAD_FORMATS)}")
    if config.model_impl not in MODEL_IMPLS:
        raise ConfigError(f"unknown model_impl {config.model_impl!r}: choose {', '.join(MODEL_IMPLS)}")
    if config.quantization not in (None, *QUANTIZATIONS, PLAIN):
        known = ", ".join((*QUANTIZATIONS, PLAIN))
        raise ConfigError(f"unknown quantization {config.quantization!r}: choose {known}, or leave it out")
    if config.kv_cache_dtype not in KV_CACHE_DTYPES:
        raise ConfigError(f"unknown kv_cache_dtype {config.kv_cache_dtype!r}: choose {' or '.join(KV_CACHE_DTYPES)}")


def _check_ranks(config: EngineConfig) -> None:
    """Raise `ConfigError` if options of an engine on several ranks conflict."""
    limit = config.step_timeout
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
        raise ConfigError(f"step_timeout must be a number of seconds above 0, not {limit!r}")
    if config.launcher not in LAUNCHERS:
        raise ConfigError(f"unknown launcher {config.launcher!r}: choose {' or '.join(LAUNCHERS)}")
    if config.launcher == "ray" and config.tp * config.pp == 1:
        raise ConfigError("launcher ray is for a model on several ranks: give tp or pp, too")
    if config.ray_address is not None and config.launcher != "ray":
        raise ConfigError("ray_address is for launcher ray: give both, or leave it out")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The options of an engine; each field's doc is its command-line help."""

    model: str | Path | None = option(
        None,
        "Model folder, GGUF file, or hub repository such as Qwen/Qwen3-0.6B, also with @REVISION. Default: the bundled model.",
    )
    revision: str | None = option(None, "Branch, tag or commit of the hub repository. Default: its main branch.")
    policy: str | Policy = option(
        "stall-free:token_budget=128:prompt_budget=512",
        "Scheduling policy, with options after a colon: orca, sarathi:chunk_size=128. `stall-free` without options means "
        "token_budget=512, the paper's for GPUs; the default is what suits CPUs.",
    )
    order: str = option("fcfs", "Order of the queue: fcfs, priority, shortest-first or fair, with options after a colon.")
    kv: str = option("prefix-cache", "K/V manager: max-length, reservation, buddy, paged or prefix-cache.")
    paper: str | None = option(None, f"Policy and K/V manager of a paper, instead of the two: {', '.join(PAPERS)}.")
    max_batch_size: int = option(8, "Most requests in one iteration.")
    max_batch_tokens: int | None = option(
        None, "Most tokens in one iteration. Default: what the batch size allows, as in Orca; on a GPU at most 8192."
    )
    max_model_len: int | None = option(
        None,
        "Most tokens of one request, prompt and output. Default: what the model was made for; rope scaling may allow more.",
    )
    block_size: int = option(16, "Tokens in one K/V block.")
    kv_memory_mib: int | None = option(
        None,
        "K/V memory in MiB, of each device. Default: what a full batch needs, at most half of what is free; on a GPU all that "
        "is left.",
    )
    num_blocks: int | None = option(None, "K/V memory in blocks, instead of MiB.")
    gpu_memory_utilization: float | None = option(
        None, "On a GPU: share of its free memory that weights, working memory and K/V may take. Default: 0.9."
    )
    tp: int = option(1, "Tensor parallel: devices (or processes of a CPU) that share every layer.")
    pp: int = option(1, "Pipeline parallel: stages that share out the layers.")
    threads: int | None = option(
        None,
        "On a CPU: threads of the engine (with tp or pp, of each rank). Default: OMP_NUM_THREADS, else one per physical core "
        "within the CPU quota, divided among ranks and replicas.",
    )
    load_format: str = option(
        "auto", "Weights: auto (the checkpoint's) or dummy (random ones, which need config.json alone, to measure a geometry)."
    )
    model_impl: str = option(
        "auto",
        "Whose code runs the layers: orcinus (a row of `orcinus models`), transformers (its own code over our attention and "
        "K/V memory: more architectures, slower), or auto (orcinus where there is a row).",
    )
    dtype: str = option("auto", "Number format: auto, float32, bfloat16 (float16 on a GPU).")
    quantization: str | None = option(
        None,
        "On a CPU: int8 or int4 turns matrices into 8-bit or 4-bit integers (the head always 8) as they are loaded, and "
        "multiplies activations in 8 bits: half or 28 % of their bytes in bfloat16, faster, less exact. none "
        "dequantises integers that the checkpoint holds, such as GGUF files have. Default: as in the checkpoint, where this "
        "machine multiplies its integers.",
    )
    lora: Adapters = option(
        (),
        "On a CPU: a LoRA adapter as NAME=PATH, a folder of peft or a hub repository; may be given several times. Requests "
        "choose it by its name.",
    )
    merge_lora: bool = option(
        False, "Add the one adapter of lora to the model's weights once: as fast as the model alone, which is no longer served."
    )
    kv_cache_dtype: str = option(
        "auto",
        "Keys and values: auto (the number format of the model), or on a CPU int8: 8-bit integers with a scale for each token "
        "and head, about half of their bytes in bfloat16, less exact.",
    )
    device: str = option("auto", "Device: auto (the CPU), cpu, or cuda (its kernels were tested in an interpreter only).")
    attention: str = option("auto", "Attention backend: auto, cpu, reference, or for GPUs triton or flash.")
    enforce_eager: bool = option(False, "On a GPU: run without CUDA graphs, which start sooner and run slower.")
    deterministic: bool = option(
        False,
        "Promise on any CPU that scheduling changes no bit of tokens and log-probabilities: alone, in any batch, with any "
        "chunks, a cached prefix and preemptions. On x86 that holds without it, except in bfloat16 with AMX, where it slows "
        "prompts down. `orcinus verify` tries it.",
    )
    launcher: str = option("local", "Where ranks run, with tp or pp: local (processes of this machine) or ray (a Ray cluster).")
    ray_address: str | None = option(None, "Address of the Ray cluster. Default: the one that this machine is a node of.")
    step_timeout: float = option(
        60.0,
        "With tp or pp: seconds after which an iteration counts as hung and the engine ends. Every 256 tokens add as many.",
    )
    speculative: str = option(
        "none",
        "Speculative decoding, on a CPU: none, or ngram (drafts copied from the request's own text), with options after a "
        "colon: ngram:k=4.",
    )
    record: str | Path | None = option(None, "Write every iteration to this file, for orcinus trace and orcinus replay.")
    seed: int = option(0, "Equal seeds give equal texts: requests without a seed of their own are given one from it.")

    def __post_init__(self) -> None:
        take_paper(self)
        object.__setattr__(self, "dtype", dtype_name(self.dtype))
        object.__setattr__(self, "lora", adapter_pairs(self.lora))
        for name in COUNTS:
            value = getattr(self, name)
            optional = type(self).__dataclass_fields__[name].default is None
            if not (value is None and optional) and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
        for names, kind, wanted in TYPES:
            for name in names:
                if not isinstance(getattr(self, name), kind):
                    raise ConfigError(f"{name} must be {wanted}, not {getattr(self, name)!r}")
        for name, kinds, words in WORDS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise ConfigError(f"{name} must be {words}, not {value!r}")
        if not isinstance(self.policy, str) and not hasattr(self.policy, "select"):
            raise ConfigError(f"policy must be a name or a policy object, not {self.policy!r}")
        _check_share(self.gpu_memory_utilization)
        _check_ranks(self)
        _check_weights(self)
        _check_adapters(self)
        if self.kv_memory_mib is not None and self.num_blocks is not None:
            raise ConfigError("kv_memory_mib and num_blocks say the same thing: give only one of them")

    @property
    def rounds_to(self) -> str | None:
        """The format that matrices are rounded to as they are loaded, in `QUANTIZATIONS`; None: they are not."""
        return None if self.quantization == PLAIN else self.quantization

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that requests may choose; none if the adapter is merged."""
        return () if self.merge_lora else tuple(name for name, _ in adapter_pairs(self.lora))

    @classmethod
    def from_options(cls, **options: Any) -> EngineConfig:
        """The config with these fields.

        Raises `ConfigError` for an unknown one, with the closest name.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                meant = f": did you mean {close[0]}?" if close else f": choose among {', '.join(known)}"
                raise ConfigError(f"unknown option {name!r}{meant}")
        return cls(**options)

    @classmethod
    def doc(cls, name: str) -> str:
        """The description of a field."""
        return next(str(f.metadata["doc"]) for f in fields(cls) if f.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The resolved configuration of an engine, with reasons."""

    folder: Path
    revision: str | None  # the commit of a hub repository
    architecture: str
    num_parameters: int
    vocab_size: int
    device: str
    dtype: str
    dtype_reason: str
    quantization: str | None
    adapters: tuple[tuple[str, str], ...]  # names and folders of LoRA adapters
    kv_cache_dtype: str  # int8, or the model's dtype
    attention: str
    deterministic: bool
    cuda_graphs: bool  # whether forward passes are captured
    policy: Policy
    order: str
    kv: str
    limits: Limits
    tokens_reason: str  # reason of limits.max_batch_tokens
    block_size: int
    num_blocks: int
    kv_bytes: int
    kv_reason: str
    speculative: str = "none"
    tp: int = 1
    pp: int = 1
    stages: tuple[range, ...] = ()  # the layers of each pipeline stage
    notes: tuple[str, ...] = ()  # what the user should know about the model, one line each

    @property
    def numbers(self) -> str:
        """The dtype, and the formats of quantised weights, keys and values."""
        weights = "" if self.quantization is None else f", {self.quantization} weights"
        kv = "" if self.kv_cache_dtype == self.dtype else f", {self.kv_cache_dtype} keys and values"
        return self.dtype + weights + kv

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit (Orca's n_slots)."""
        return self.num_blocks * self.block_size
