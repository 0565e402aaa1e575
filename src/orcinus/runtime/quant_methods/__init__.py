"""Formats of quantised checkpoints: a row for each `quant_method` of a `quantization_config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import shown
from orcinus.runtime.quant_methods.compressed_tensors import read_compressed_tensors
from orcinus.runtime.quant_methods.others import read_awq, read_bitsandbytes, read_fbgemm_fp8, read_fp8, read_gptq
from orcinus.runtime.quant_methods.scheme import Scheme


@dataclass(frozen=True, slots=True)
class QuantMethod:
    """A format of quantised checkpoints: a row of the registry."""

    read: Callable[[Mapping[str, Any]], Scheme]  # checks the settings; raises `ModelError`
    stores: str  # in words


QUANT_METHODS: Mapping[str, QuantMethod] = {
    "compressed-tensors": QuantMethod(read_compressed_tensors, "int8, integers of 2 to 8 bits in groups, FP8 (llm-compressor)"),
    "gptq": QuantMethod(read_gptq, "2, 3, 4 or 8 bits in groups, also with act-order"),
    "awq": QuantMethod(read_awq, "4 bits in groups with zero points (layout gemm)"),
    "fp8": QuantMethod(read_fp8, "FP8 with a scale for each block (DeepSeek, Qwen), output or tensor"),
    "fbgemm_fp8": QuantMethod(read_fbgemm_fp8, "FP8 with a scale for each output"),
    "bitsandbytes": QuantMethod(read_bitsandbytes, "int8 with a scale for each output"),
}


def quantization_settings(config: Mapping[str, Any]) -> Any:
    """What a config.json says of its quantised weights; the first checkpoints of llm-compressor have another name for it."""
    return config.get("quantization_config") or config.get("compression_config")


def read_scheme(config: Mapping[str, Any]) -> tuple[str, Scheme] | None:
    """The method of a config.json and its settings; None if the weights are plain. Raises `ModelError`."""
    settings = quantization_settings(config)
    if not settings:
        return None
    method = settings.get("quant_method") if isinstance(settings, Mapping) else None
    row = QUANT_METHODS.get(method) if isinstance(method, str) else None
    if row is None:
        raise ModelError(
            f"quantized checkpoints of quant_method {shown(method)} are not supported: known are {', '.join(QUANT_METHODS)}"
        )
    try:
        return str(method), row.read(settings)
    except ModelError as error:
        raise ModelError(f"the quantization_config ({method}) cannot be used: {error}") from None
