"""GGUF files that are damaged, lie, or are of another kind: one line each, before memory is taken."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus import EngineConfig
from orcinus.errors import ConfigError, ModelError
from orcinus.gguf_config import gguf_config
from orcinus.gguf_file import LargeArray, read_gguf
from orcinus.plan import make_plan
from orcinus.text.gguf_tokenizer import gguf_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.gguf_files import write_gguf

U32, F32, STRING, ARRAY, U64 = 4, 6, 8, 9, 10
SIZES = {"context_length": 64, "embedding_length": 8, "block_count": 1, "feed_forward_length": 16, "attention.head_count": 2}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def number(name: str, value: int, kind: int = U32) -> bytes:
    return text(name) + struct.pack("<I" + {U32: "I", F32: "f", U64: "Q"}[kind], kind, value)


def words(name: str, values: Sequence[str], count: int | None = None) -> bytes:
    stated = len(values) if count is None else count
    return text(name) + struct.pack("<IIQ", ARRAY, STRING, stated) + b"".join(map(text, values))


def tensor(name: str, shape: Sequence[int] = (8, 4), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def header(
    fields: Sequence[bytes] = (),
    tensors: Sequence[bytes] = (),
    *,
    start: bytes = b"GGUF\x03\0\0\0",
    counts: tuple[int, int] | None = None,
    data: int = 4096,
) -> bytes:
    """A file, whose counts may lie."""
    num_tensors, num_fields = counts or (len(tensors), len(fields))
    head = start + struct.pack("<QQ", num_tensors, num_fields) + b"".join(fields) + b"".join(tensors)
    return head + bytes(-len(head) % 32 + data)


ARCHITECTURE = text("general.architecture") + struct.pack("<I", STRING) + text("llama")
EMBEDDING = tensor("token_embd.weight")
LLAMA = [ARCHITECTURE, *(number(f"llama.{name}", value) for name, value in SIZES.items())]

BAD = {
    "is truncated": header()[:20],
    "is a big-endian GGUF file": header(start=b"GGUF\0\0\0\x03"),
    "is a GGUF file of version 1: versions 2 and 3 are supported": header(start=b"GGUF\x01\0\0\0"),
    "says that it has 1152921504606846976 tensors, at most": header(counts=(2**60, 0)),
    "says that it has 4294967296 metadata fields, at most": header(counts=(0, 2**32)),
    "ends inside its header: download": header(counts=(3, 0), data=0),
    "says that it has 1000000000000000000 strings in an array": header([words("a", [], 10**18)]),
    "ends inside its header: download it": header([text("a") + struct.pack("<IIQ", ARRAY, U64, 2**61)]),
    "holds metadata of the unknown type 9": header([text("a") + struct.pack("<IIQ", ARRAY, ARRAY, 1)]),
    "holds metadata of the unknown type 77": header([text("a") + struct.pack("<I", 77)]),
    "has two fields 'a'": header([number("a", 1), number("a", 2)]),
    "is not UTF-8": header([struct.pack("<Q", 1) + b"\xff" + struct.pack("<I", 0)]),
    "bytes in a name": header([text("a" * 5000) + struct.pack("<I", 0)]),
    "has two tensors 'a'": header(tensors=[tensor("a"), tensor("a", offset=128)]),
    "'a' and 'b' share bytes": header(tensors=[tensor("a"), tensor("b")]),
    "'a' does not lie inside it": header(tensors=[tensor("a", offset=2**40)]),
    "truncated or damaged: 'a' does not": header(tensors=[tensor("a", shape=(2**31, 2**31))]),
    "is truncated or damaged: 'a'": header(tensors=[tensor("a", offset=7)]),
    "dimensions of a tensor": header(tensors=[tensor("a", shape=(1,) * 9)]),
    "of ggml's type 19, which is not supported: known are F32, F16, Q4_0": header(tensors=[tensor("a", kind=19)]),
    "rows of 'a' are not whole blocks of Q4_0": header(tensors=[tensor("a", shape=(33,), kind=2)]),
    "general.alignment is 7": header([number("general.alignment", 7)]),
    "names no general.architecture": header(tensors=[EMBEDDING]),
    "architecture 'mamba': known in GGUF files are": header([ARCHITECTURE.replace(b"llama", b"mamba")]),
    "general.architecture is 7": header([number("general.architecture", 7)]),
    "weights are missing in .*: token_embd.weight": header(LLAMA),
    "has no llama.block_count": header([*LLAMA[:3], *LLAMA[4:]], [EMBEDDING]),
    "llama.block_count is 'x'": header(
        [*LLAMA[:3], text("llama.block_count") + struct.pack("<I", STRING) + text("x"), *LLAMA[4:]], [EMBEDDING]
    ),
    "num_hidden_layers must be a whole number from 1 to 512, not 4000000000": header(
        [*LLAMA[:3], number("llama.block_count", 4_000_000_000), *LLAMA[4:]], [EMBEDDING]
    ),
    "llama.expert_count of this architecture is not supported": header([*LLAMA, number("llama.expert_count", 8)], [EMBEDDING]),
    "llama.attn_logit_softcapping of this": header([*LLAMA, number("llama.attn_logit_softcapping", 30)], [EMBEDDING]),
    "rope scaling 'longrope' is not supported": header(
        [*LLAMA, text("llama.rope.scaling.type") + struct.pack("<I", STRING) + text("longrope")], [EMBEDDING]
    ),
    "weights are missing in .*: blk.0.attn_k.weight, blk.0.attn_norm.weight": header(LLAMA, [EMBEDDING]),
}


@pytest.mark.parametrize("message", BAD)
def test_a_file_that_cannot_be_served_says_why(tmp_path: Path, message: str) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(BAD[message])
    with pytest.raises(ConfigError, match=message) as caught:
        make_plan(EngineConfig(model=file, max_model_len=32))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelError, match="is not a GGUF file: it does not begin with GGUF"):
        make_plan(EngineConfig(model=tmp_path / "model.gguf"))


def test_a_vocabulary_stays_in_the_file(tmp_path: Path) -> None:
    names = [f"token {index}" for index in range(5000)]
    (tmp_path / "model.gguf").write_bytes(header([words("large", names), words("small", names[:3])]))
    found = read_gguf(tmp_path / "model.gguf")
    assert isinstance(found.fields["large"], LargeArray)
    assert found.fields["small"] == found.values("small") == names[:3]
    assert found.values("large") == names
    assert found.values("none") is None


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    for value in (1, 22):
        file.write_bytes(header([number("a", value)], data=value))
        assert read_gguf(file).fields["a"] == value


def test_every_field_is_read_as_ggml_reads_it(tmp_path: Path) -> None:
    file = write_gguf(MODEL_DIR, tmp_path / "model.gguf", "Q8_0", lambda writer: writer.add_array("numbers", [1.5, 2.5]))
    ours, theirs = read_gguf(file), gguf.GGUFReader(file)
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            expected = field.contents()
            assert (ours.values(name) if isinstance(expected, list) else ours.fields[name]) == expected, name
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert (mine.type.name, mine.shape[::-1]) == (tensor.tensor_type.name, tuple(tensor.shape.tolist()))
        assert (mine.offset, mine.num_bytes) == (tensor.data_offset, tensor.n_bytes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("gguf")
    data = write_gguf(MODEL_DIR, folder / "whole.gguf", "Q8_0").read_bytes()
    return folder / "broken.gguf", data


Change = tuple[int, bytes]


@given(
    changes=st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=9)), max_size=4),
    end=st.one_of(st.none(), st.integers(0, 120_000)),
)
def test_no_damage_raises_anything_else(whole: tuple[Path, bytes], changes: list[Change], end: int | None) -> None:
    """Whatever its bytes are, a file can be understood, or the error says why not."""
    file, data = whole
    broken = bytearray(data)
    for at, some in changes:
        broken[at : at + len(some)] = some
    file.write_bytes(broken[:end])
    readers: list[Callable[[Any], object]] = [gguf_config, gguf_tokenizer]
    with suppress(ModelError):
        found = read_gguf(file)
        for read in readers:
            with suppress(ModelError):
                read(found)
