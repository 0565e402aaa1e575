"""The settings of GPTQ, AWQ, 8-bit floats, and bitsandbytes' 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orcinus.errors import ModelError
from orcinus.runtime.quant_methods.layout import CodeLayout
from orcinus.runtime.quant_methods.packed import Awq, Gptq
from orcinus.runtime.quant_methods.scheme import OneLayout
from orcinus.runtime.quant_methods.settings import block_size, choice, flag, group_size, matches_pattern, objects
from orcinus.runtime.quant_methods.unpacked import FLOAT8, INT8, Unpacked, is_narrow
from orcinus.runtime.weight_files import TensorHeader

FIXED_SCALES = "its fixed scales of activations are not used: activations keep their numbers"


@dataclass(frozen=True, slots=True)
class GptqScheme:
    """GPTQ (Frantar et al., 2022), with rules for single modules (GPTQModel's `dynamic`)."""

    settings: Mapping[str, Any]
    rules: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def layout(self, module: str, headers: Mapping[str, TensorHeader]) -> CodeLayout | None:
        if "qweight" not in headers:
            return None
        for rule, changes in self.rules.items():
            if not rule.startswith("-:") and matches_pattern(rule.removeprefix("+:"), module):
                return gptq_layout({**self.settings, **objects(changes, "dynamic")})
        return gptq_layout(self.settings)


def gptq_layout(settings: Mapping[str, Any]) -> Gptq:
    """The layout of modules by settings. Raises `ModelError`."""
    bits = choice(settings, "bits", (2, 3, 4, 8))
    version = choice(settings, "checkpoint_format", ("gptq", "gptq_v2"), "gptq")
    symmetric, ordered = flag(settings, "sym", True), not flag(settings, "desc_act", False)
    return Gptq(bits, group_size(settings), symmetric, ordered, first_version=version == "gptq")


def read_gptq(settings: Mapping[str, Any]) -> GptqScheme:
    """Settings that AutoGPTQ, GPTQModel or optimum wrote."""
    choice(settings, "pack_dtype", ("int32",), "int32")
    gptq_layout(settings)
    return GptqScheme(settings, objects(settings.get("dynamic"), "dynamic"))


def read_awq(settings: Mapping[str, Any]) -> OneLayout:
    """Settings of AWQ (Lin et al., 2023), in AutoAWQ's layout gemm."""
    version = settings.get("version") or settings.get("format") or "gemm"
    choice({"version": version}, "version", ("gemm",))
    choice(settings, "bits", (4,), settings.get("w_bit", 4))
    size = group_size(settings, settings.get("q_group_size", 128))
    return OneLayout(Awq(size), lambda headers: "qweight" in headers)


@dataclass(frozen=True, slots=True)
class Fp8Scheme:
    """8-bit floats: with a scale for each block, or for a tensor or each output."""

    block: tuple[int, int] | None  # outputs and inputs that share a scale
    notes: tuple[str, ...] = ()

    def layout(self, module: str, headers: Mapping[str, TensorHeader]) -> CodeLayout | None:
        del module
        if not is_narrow(headers, FLOAT8):
            return None
        inverse = "weight_scale_inv"  # of what weights were multiplied by: weights are multiplied by it to get them back
        if self.block is not None:
            return Unpacked(FLOAT8, inverse, group=self.block[1], block_outputs=self.block[0])
        return Unpacked(FLOAT8, inverse if inverse in headers else "weight_scale")


def read_fp8(settings: Mapping[str, Any]) -> Fp8Scheme:
    """Settings of DeepSeek, Qwen (blocks) and AutoFP8 (tensors)."""
    choice(settings, "fmt", ("e4m3", "float8_e4m3fn"), "e4m3")
    notes = (FIXED_SCALES,) if choice(settings, "activation_scheme", ("dynamic", "static"), "dynamic") == "static" else ()
    size = settings.get("weight_block_size")
    return Fp8Scheme(None if size is None else block_size(size, "weight_block_size"), notes)


def read_fbgemm_fp8(settings: Mapping[str, Any]) -> Fp8Scheme:
    """Settings of FBGEMM: a scale for each output (Llama 3.1 405B FP8)."""
    del settings
    return Fp8Scheme(None)


def read_bitsandbytes(settings: Mapping[str, Any]) -> OneLayout:
    """8-bit integers with the largest value of each output (LLM.int8(): Dettmers et al., 2022)."""
    if flag(settings, "load_in_4bit", False) or not flag(settings, "load_in_8bit", False):
        raise ModelError("4-bit weights of bitsandbytes are not supported: use its 8-bit ones, GPTQ, AWQ or compressed-tensors")
    return OneLayout(Unpacked(INT8, "SCB", divisor=127.0), lambda headers: is_narrow(headers, INT8))
