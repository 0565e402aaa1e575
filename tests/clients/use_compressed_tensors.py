"""Checkpoints that compressed-tensors writes, loaded here: the same matrices as the library's own dequantisation.

Argument: the environment that holds the library.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.checkpoints import make_model, save
from tests.runtime.test_quantized_checkpoints import loaded, matrices

INTEGERS, FLOATS = {"type": "int"}, {"type": "float", "num_bits": 8}
GROUPS = {"strategy": "group", "group_size": 16}
ROWS = {"num_bits": 8, "strategy": "token", "dynamic": True}
SCHEMES: dict[str, dict[str, Any]] = {
    "W8A8": {"weights": INTEGERS | {"num_bits": 8, "strategy": "channel"}, "input_activations": INTEGERS | ROWS},
    "W8A8, a scale for a tensor": {
        "weights": INTEGERS | {"num_bits": 8, "strategy": "tensor"},
        "input_activations": INTEGERS | ROWS,
    },
    "W4A16": {"weights": INTEGERS | GROUPS | {"num_bits": 4}},
    "W4A16, asymmetric": {"weights": INTEGERS | GROUPS | {"num_bits": 4, "symmetric": False}},
    "W8A16 in groups": {"weights": INTEGERS | GROUPS | {"num_bits": 8}},
    "W3A16": {"weights": INTEGERS | {"num_bits": 3, "strategy": "channel"}},
    "FP8": {"weights": FLOATS | {"strategy": "channel"}, "input_activations": FLOATS | ROWS},
    "FP8, fixed scales": {"weights": FLOATS | {"strategy": "tensor"}, "input_activations": FLOATS | {"strategy": "tensor"}},
    "FP8 in blocks": {"weights": FLOATS | {"strategy": "block", "block_structure": [16, 16]}},
}
TOLERANCE = 1e-6  # of the largest number of a matrix; products of integers round their result once


def extremes(weight: Tensor, weights: Any) -> tuple[Tensor, Tensor]:
    """The least and largest number behind each scale."""
    outputs, inputs = weight.shape
    blocks = {
        "tensor": (weight.reshape(1, -1), (1,)),
        "channel": (weight, (outputs, 1)),
        "group": (weight.reshape(-1, weights.group_size or inputs), (outputs, -1)),
        "block": (weight.reshape(outputs // 16, 16, -1, 16).transpose(1, 2).reshape(-1, 256), (outputs // 16, -1)),
    }
    numbers, shape = blocks[weights.strategy]
    return numbers.amin(1).reshape(shape), numbers.amax(1).reshape(shape)


def quantised(scheme: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """A tiny model as the library compresses it, and as it decompresses it again."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    model = make_model("llama2")
    groups = {"group_0": {"targets": ["Linear"], **scheme}}
    apply_quantization_config(model, QuantizationConfig(config_groups=groups, ignore=["lm_head"], quantization_status="frozen"))
    for module in model.modules():
        if (found := getattr(module, "quantization_scheme", None)) is not None:
            scale, zero = calculate_qparams(*extremes(module.weight.data, found.weights), found.weights)
            module.weight_scale.data = scale.to(module.weight_scale.dtype).reshape(module.weight_scale.shape)
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data = zero.to(module.weight_zero_point.dtype).reshape(module.weight_zero_point.shape)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    compressed = save(model, folder / "compressed")
    compressor.update_config(compressed)
    compressor.decompress_model(model)
    plain = make_model("llama2")
    numbers = model.state_dict()
    plain.load_state_dict({name: numbers[name] for name in plain.state_dict()})
    return compressed, save(plain, folder / "plain")


def worst_difference(compressed: Path, plain: Path) -> float:
    """The largest difference of two folders' matrices, as a part of the largest number of its matrix."""
    found, expected = matrices(loaded(compressed)), matrices(loaded(plain))
    return max(float((found[name] - matrix).abs().max() / matrix.abs().max()) for name, matrix in expected.items())


def main() -> int:
    """Print a line for each scheme."""
    sys.path += map(str, Path(sys.argv[1]).glob("lib/python*/site-packages"))
    failed = 0
    for name, scheme in SCHEMES.items():
        with tempfile.TemporaryDirectory() as folder:
            worst = worst_difference(*quantised(scheme, Path(folder)))
        failed += worst > TOLERANCE
        print(f"{'pass' if worst <= TOLERANCE else 'FAIL'}  {name}: matrices differ by {worst:.1e}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
