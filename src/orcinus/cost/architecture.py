"""The shape of a decoder, on which its speed and memory depend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orcinus.errors import ConfigError, ModelError
from orcinus.gguf_file import GgufFile, gguf_in, is_gguf, read_gguf
from orcinus.model_config import check_sizes, read_config, read_object, shown

BYTES = 2  # of a weight, an activation, a key or a value: 16-bit numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder-only transformer. Sizes are numbers of elements."""

    name: str
    layers: int
    hidden: int
    heads: int  # of queries
    kv_heads: int
    ffn: int  # width of the feed-forward network
    vocab: int
    gated: bool  # whether the feed-forward network has a gate beside its up-projection (SwiGLU)
    max_model_len: int
    head_dim: int = 0  # 0 = hidden / heads
    tied: bool = False  # whether the embedding is the output projection too
    parallel: bool = False  # whether attention and feed-forward network run side by side, with one sum at the end (Falcon)
    window: int | None = None  # tokens that a token attends to at most, itself included (Mistral); None = all before it

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "max_model_len"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ModelError(f"{self.name}: {field} must be a whole number of at least 1, not {value!r}")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.name}: {self.heads} query heads are no multiple of {self.kv_heads} key/value heads")
        if not self.head_dim:
            object.__setattr__(self, "head_dim", self.hidden // self.heads)
        if self.head_dim < 1:
            raise ModelError(f"{self.name}: {self.heads} heads cannot share {self.hidden} dimensions")
        if self.window is not None and self.window < 1:
            raise ModelError(f"{self.name}: window must be at least 1 token, not {self.window!r}")

    @property
    def qkv_width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_dim

    @property
    def up_width(self) -> int:
        return self.ffn * (2 if self.gated else 1)

    @property
    def layer_weights(self) -> int:
        """Weights of the four linear layers of one transformer layer."""
        return self.hidden * (self.qkv_width + self.heads * self.head_dim + self.up_width + self.ffn)

    @property
    def embedding_weights(self) -> int:
        """Weights of the embedding and of the output projection."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def num_parameters(self) -> int:
        return self.layers * self.layer_weights + self.embedding_weights

    @property
    def kv_bytes(self) -> int:
        """Bytes of the keys and values of one token, over all layers."""
        return self.layers * self.layer_kv_bytes(1)

    def layer_kv_bytes(self, tp: int) -> int:
        """K/V bytes of one token, per layer and device.

        `tp` devices share the heads; where heads are fewer than devices, several devices hold the same head.
        """
        return 2 * BYTES * max(1, self.kv_heads // tp) * self.head_dim


def _gpt(name: str, layers: int, hidden: int, heads: int, vocab: int = 50257) -> Architecture:
    """GPT-3 (Brown et al., 2020, table 2.1) or OPT.

    All heads are alike; feed-forward networks have four times the width.
    """
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        ffn=4 * hidden,
        vocab=vocab,
        gated=False,
        max_model_len=2048,
        tied=True,
    )


def _llama(
    name: str, layers: int, hidden: int, heads: int, ffn: int, length: int, kv: int = 0, vocab: int = 32000, **more: Any
) -> Architecture:
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv or heads,
        ffn=ffn,
        vocab=vocab,
        gated=True,
        max_model_len=length,
        **more,
    )


def _falcon(name: str, layers: int, hidden: int, heads: int) -> Architecture:
    return Architecture(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=8,
        ffn=4 * hidden,
        vocab=65024,
        gated=False,
        max_model_len=2048 if layers < 80 else 8192,
        head_dim=64,
        tied=True,
        parallel=True,
    )


ARCHITECTURES: dict[str, Architecture] = {
    each.name: each
    for each in (
        _gpt("gpt3-13b", 40, 5120, 40),
        _gpt("gpt3-101b", 80, 10240, 80),
        _gpt("gpt3-175b", 96, 12288, 96),
        _gpt("gpt3-341b", 120, 15360, 120),
        _llama("llama-7b", 32, 4096, 32, 11008, 2048),
        _llama("llama-13b", 40, 5120, 40, 13824, 2048),
        _llama("llama-33b", 60, 6656, 52, 17920, 2048),
        _llama("llama-65b", 80, 8192, 64, 22016, 2048),
        _llama("llama-2-7b", 32, 4096, 32, 11008, 4096),
        _llama("llama-2-13b", 40, 5120, 40, 13824, 4096),
        _llama("llama-2-70b", 80, 8192, 64, 28672, 4096, kv=8),
        _llama("codellama-34b", 48, 8192, 64, 22016, 16384, kv=8),
        _llama("llama-3-8b", 32, 4096, 32, 14336, 8192, kv=8, vocab=128256),
        _llama("llama-3-70b", 80, 8192, 64, 28672, 8192, kv=8, vocab=128256),
        _llama("mistral-7b", 32, 4096, 32, 14336, 32768, kv=8, window=4096),  # Mistral 7B paper, table 1
        _llama("yi-34b", 60, 7168, 56, 20480, 4096, kv=8, vocab=64000),
        _llama("yi-34b-200k", 60, 7168, 56, 20480, 200000, kv=8, vocab=64000),
        _gpt("opt-13b", 40, 5120, 40, vocab=50272),
        _gpt("opt-66b", 64, 9216, 72, vocab=50272),
        _gpt("opt-175b", 96, 12288, 96, vocab=50272),
        _falcon("falcon-40b", 60, 8192, 128),
        _falcon("falcon-180b", 80, 14848, 232),
    )
}


def find_architecture(name: str | Path) -> Architecture:
    """A preset by name, or the shape in a Hugging Face config.json or a GGUF file.

    Raises `ModelError` if it is neither.
    """
    preset = ARCHITECTURES.get(str(name).lower())
    if preset is not None:
        return preset
    path = Path(name)
    file = gguf_in(path) or path / "config.json" if path.is_dir() else path
    if not file.is_file():
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"unknown model {str(name)!r}: give a Hugging Face config (folder or file), a GGUF file or one of {known}"
        )
    if is_gguf(file):
        shape = from_config(read_config(file), str(name))
        return replace(shape, gated=_has_gate(read_gguf(file), shape.ffn))
    return from_config(read_object(file), str(name))


def _has_gate(file: GgufFile, ffn: int) -> bool:
    """Whether a GGUF file's feed-forward networks have gates, of their own or fused with the up-projection."""
    up = file.tensors.get("blk.0.ffn_up.weight")
    return "blk.0.ffn_gate.weight" in file.tensors or (up is not None and up.shape[0] == 2 * ffn)


def from_config(config: Mapping[str, Any], name: str) -> Architecture:
    """The shape that a Hugging Face config describes.

    Raises `ModelError` if a size is missing or absurd, or if the model cannot be simulated.
    """
    _check_family(config, name)
    inner = config.get("text_config")  # of multimodal models
    if isinstance(inner, Mapping):
        config = {**config, **inner}
    check_sizes(config, f"the config of {name}")

    def size(*names: str, default: int | None = None) -> int:
        value = next((config[key] for key in names if config.get(key) is not None), default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ModelError(f"the config of {name} does not say {names[0]}: is it a decoder's?")
        return value

    hidden = size("hidden_size", "n_embd", "d_model")
    heads = size("num_attention_heads", "n_head", "n_heads")
    grouped = config.get("new_decoder_architecture", True)
    kind = str(config.get("model_type"))
    alone = 1 if config.get("multi_query", kind == "falcon") and not config.get("new_decoder_architecture") else heads
    kv_heads = size("num_key_value_heads", "num_kv_heads", "n_head_kv", default=alone) if grouped else alone
    usual = "gelu" if kind in UNGATED or "n_embd" in config or "n_head" in config else "silu"
    activation = str(config.get("hidden_act") or config.get("activation_function") or config.get("activation") or usual)
    return Architecture(
        name=name,
        layers=size("num_hidden_layers", "n_layer", "n_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        ffn=size("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", default=4 * hidden),
        vocab=size("vocab_size"),
        gated="silu" in activation or "swish" in activation or "glu" in activation or "gemma" in kind,
        max_model_len=size("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", default=2048),
        head_dim=size("head_dim", default=hidden // heads),
        tied=bool(config.get("tie_word_embeddings", kind in TIED)),
        parallel=kind in PARALLEL or any(config.get(name, kind == family) for name, family in PARALLEL_IF.items()),
        window=_window(config),
    )


# Families without a gate by default, with a tied head by default, with parallel layers, and with windows on some layers:
UNGATED = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "falcon", "bloom", "phi", "mpt", "starcoder2", "nemotron", "arcee")
TIED = ("gpt2", "opt", "falcon", "starcoder2", "cohere", "cohere2", "gemma", "gemma2", "gemma3", "gemma3_text")
PARALLEL = ("phi", "gptj", "cohere", "cohere2")
PARALLEL_IF = {
    "parallel_attn": "falcon",
    "use_parallel_residual": "gpt_neox",
}  # fields, and the family that has them by default
ALTERNATING = ("gemma2", "gemma3", "gemma3_text", "cohere2", "olmo3")
UNKNOWN = {  # config fields of models that cannot be computed here
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
    "n_routed_experts": "a mixture of experts",
    "kv_lora_rank": "latent attention",
    "quantization_config": "quantized weights",
    "compression_config": "quantized weights",
}


def _check_family(config: Mapping[str, Any], name: str) -> None:
    """Raise `ModelError` unless it is a dense decoder with 16-bit weights."""
    for key, what in UNKNOWN.items():
        if config.get(key):
            raise ModelError(f"the config of {name} says {key}: {what} cannot be simulated yet, give a dense model's")
    listed = config.get("architectures")
    named = listed if isinstance(listed, list) and listed else ["ForCausalLM"]
    if not any(word in str(named[0]) for word in ("CausalLM", "LMHead", "ConditionalGeneration")):
        raise ModelError(f"the config of {name} is of {shown(named[0])}, which generates no text: give a decoder's")
    if config.get("is_encoder_decoder") or config.get("model_type") in ("bert", "roberta", "t5", "vit"):
        raise ModelError(f"the config of {name} is of no decoder-only model")


def _window(config: Mapping[str, Any]) -> int | None:
    """The sliding window, if every layer has it; else None."""
    mixed = "layer_types" in config or "sliding_window_pattern" in config or not config.get("use_sliding_window", True)
    mixed = mixed or config.get("model_type") in ALTERNATING
    window = config.get("sliding_window")
    return window if isinstance(window, int) and not isinstance(window, bool) and window > 0 and not mixed else None


@dataclass(frozen=True, slots=True)
class Parallel:
    """The devices of one replica. Raises `ConfigError` for impossible numbers."""

    tp: int = 1  # tensor parallel: devices per layer (Orca: intra-layer)
    pp: int = 1  # pipeline parallel: stages of layers (Orca: inter-layer)

    def __post_init__(self) -> None:
        for name in ("tp", "pp"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")

    @property
    def devices(self) -> int:
        return self.tp * self.pp

    def check(self, model: Architecture) -> None:
        """Raise `ConfigError` unless the model can be divided so."""
        if model.heads % self.tp:
            fitting = [str(n) for n in range(1, 65) if model.heads % n == 0]
            raise ConfigError(
                f"tp={self.tp} does not divide the {model.heads} heads of {model.name}: choose one of {', '.join(fitting)}"
            )
        if max(model.kv_heads, self.tp) % min(model.kv_heads, self.tp):
            raise ConfigError(f"tp={self.tp} and the {model.kv_heads} key/value heads of {model.name} do not divide each other")
        if self.pp > model.layers:
            raise ConfigError(f"pp={self.pp} is more than the {model.layers} layers of {model.name}: lower it")

    def layers(self, model: Architecture) -> tuple[int, ...]:
        """Layers of each stage, as equal as possible."""
        each, rest = divmod(model.layers, self.pp)
        return tuple(each + (stage < rest) for stage in range(self.pp))
