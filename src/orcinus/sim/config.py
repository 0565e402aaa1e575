"""The options of a simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from orcinus.config import PAPERS, option, take_paper
from orcinus.cost.device_file import is_device_file, like_of
from orcinus.cost.networks import USUAL_NETWORKS
from orcinus.errors import ConfigError
from orcinus.workload.lengths import read_as
from orcinus.workload.workload import usual_arrivals

MOST_BLOCKS = 10_000_000
WORDS = ("model", "device", "network", "software", "router", "policy", "order", "kv", "arrivals", "lengths", "tokenizer")
COUNTS = ("seeds", "replicas", "max_batch_size", "max_batch_tokens", "max_model_len", "block_size", "num_blocks", "in_flight")
MODEL, POLICY, KV, NETWORK = "mistral-7b", "stall-free", "paged", "a100-dgx"  # the defaults
ARRIVALS = "poisson:rate=1"  # the default
MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """All options of a simulation; each field's text is its command-line help.

    Raises `ConfigError` for values that are never valid; checks that depend on other fields come when the simulation is built.
    """

    model: str = option(
        "", f"Model: a preset such as gpt3-175b, a Hugging Face config.json or its folder, or a GGUF file. Default: {MODEL}."
    )
    device: str = option(
        "a100-80g",
        "Device: a100-40g, a100-80g, a6000, a40, h100, h200, …, or a .json file: your own device's (docs/simulator.md), or one "
        "from orcinus calibrate.",
    )
    network: str = option(
        "",
        "Network between the devices of a replica: a100-dgx, a100-nd96asr, a100-nc96ads, a40-bridges, h100-dgx, h100-bridges, "
        "pcie, or a .json file of your own (docs/simulator.md). "
        "Default: the usual one for the device.",
    )
    software: str = option(
        "default", "Serving system whose constants to use, with changes after a colon: orca, vllm:request=0.0001."
    )
    tp: int = option(1, "Tensor parallel: devices that share every layer.")
    pp: int = option(1, "Pipeline parallel: stages that share the layers.")
    replicas: int = option(1, "Replicas of the model, each on tp x pp devices.")
    router: str = option(
        "least-outstanding", "Router: round-robin, least-outstanding, least-work, prefix-affine or oracle-least-work."
    )
    in_flight: int | None = option(None, "Batches in flight in a replica. Default: one for every pipeline stage.")
    policy: str = option(
        "",
        f"Scheduling policy, with options after a colon: orca, sarathi:chunk_size=256. Default: {POLICY}, which means "
        "token_budget=512, as in Sarathi-Serve; a real engine's default is 128, for CPUs.",
    )
    order: str = option("fcfs", "Order of the queue: fcfs, priority, shortest-first or fair.")
    kv: str = option("", f"K/V manager: max-length, reservation, buddy, paged or prefix-cache. Default: {KV}.")
    paper: str | None = option(None, f"Policy and K/V manager of a paper, instead of the two: {', '.join(PAPERS)}.")
    max_batch_size: int | None = option(None, "Most requests in one iteration. Default: 128, or the measured value.")
    max_batch_tokens: int | None = option(None, "Most tokens in one iteration. Default: what the batch size allows.")
    max_model_len: int | None = option(
        None, "Most tokens of one request, prompt and output. Default: the model's context length."
    )
    block_size: int | None = option(None, "Tokens in one K/V block. Default: 16, or the measured value.")
    num_blocks: int | None = option(None, "K/V memory in blocks. Default: what weights and activations leave free.")
    gpu_memory_utilization: float = option(0.9, "Share of the devices' memory that may be used.")
    price: float | None = option(
        None, "Price of a device for an hour, in any currency: the run then says what a million output tokens cost."
    )
    arrivals: str = option(
        "",
        "Arrival process: poisson:rate=, gamma:rate=:cv=, constant:rate=, ramp:start=:end=:seconds=, all-at-once, "
        "closed:clients=:think=; `trace` for the times of a trace. Default: the times of the trace, if the lengths are of one "
        f"that has them; else {ARRIVALS}.",
    )
    lengths: str = option(
        "sharegpt",
        "Lengths: orca, sharegpt, arxiv, azure-conversation, …, two distributions a,b for prompt and output, or trace:file=.",
    )
    requests: int | None = option(1000, "How many requests, at most.")
    max_total: int | None = option(None, "Drop requests of more tokens than this, prompt and output.")
    max_tokens: str | None = option(
        None, "max_tokens of requests: a number, or pow2, the next power of two above the answer. Default: the exact answer."
    )
    tokenizer: str = option(
        "", "Folder of the tokenizer that counts the tokens of a trace of texts. Default: the bundled model's."
    )
    reject_bad_rows: bool = option(False, "Stop at the first bad row of a trace. Default: count and skip bad rows.")
    seed: int = option(0, "Equal seeds give equal requests.")
    seeds: int = option(1, "Number of seeds, from --seed on: figures are medians with confidence intervals.")
    record: Path | None = option(None, "Write every iteration of the first replica to this file, for orcinus trace and replay.")

    def __post_init__(self) -> None:
        for name in WORDS:
            value = getattr(self, name)
            if not isinstance(value, str):
                raise ConfigError(f"{name} must be a string, not {value!r}")
        take_paper(self)
        self._take_defaults()
        for name in COUNTS:
            value = getattr(self, name)
            optional = type(self).__dataclass_fields__[name].default is None
            if not (value is None and optional) and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
        if self.num_blocks is not None and self.num_blocks > MOST_BLOCKS:
            raise ConfigError(f"num_blocks must be at most {MOST_BLOCKS}, which fills any device, not {self.num_blocks}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed must be a whole number of at least 0, not {self.seed!r}")
        if self.seeds > MOST_SEEDS:
            raise ConfigError(f"seeds must be at most {MOST_SEEDS}, not {self.seeds}")
        share = self.gpu_memory_utilization
        if not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ConfigError(f"gpu_memory_utilization must be above 0 and at most 1, not {share!r}")
        if self.price is not None and not (isinstance(self.price, (int, float)) and 0 < self.price < math.inf):
            raise ConfigError(f"price must be a number above 0, not {self.price!r}")

    @property
    def read_lengths(self) -> str:
        """The lengths, with the options for reading their file. Raises `ConfigError`."""
        return read_as(self.lengths, self.tokenizer, self.reject_bad_rows)

    @property
    def process(self) -> str:
        """The chosen or default arrival process. Raises `ConfigError`."""
        return self.arrivals or usual_arrivals(self.lengths, ARRIVALS)

    @property
    def measured(self) -> bool:
        """Whether the device is a calibration file, which names the model too."""
        return self.device.endswith(".json") and not is_device_file(self.device)

    def _take_defaults(self) -> None:
        """Fill in defaults, after checking for options that exclude each other."""
        usual = {"policy": POLICY, "kv": KV}
        if not self.measured:
            usual |= {"model": MODEL, "network": USUAL_NETWORKS.get(like_of(self.device).lower(), NETWORK)}
        for name, value in usual.items():
            if getattr(self, name) == "":
                object.__setattr__(self, name, value)
