"""`orcinus verify`: bits compared over ways to schedule one request."""

from __future__ import annotations

import json

import pytest
import torch

from orcinus import LLM
from orcinus.errors import ConfigError
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.panel_weights import PanelWeight
from tests.commands import orcinus
from tests.product import part

SHORT = ("--prompt-tokens", "40", "--max-tokens", "4", "--dtype", "bfloat16", "--block-size", "8")


FREE = packed_format("cpu", torch.bfloat16) is PanelWeight
FORMATS = part("", full=["--kv-cache-dtype int8", "--quantization int8", "--quantization int4", "--dtype float32"])


@pytest.mark.skipif(not FREE, reason="needs --deterministic on this processor")
@pytest.mark.parametrize("options", FORMATS)
def test_every_way_has_the_same_bits_without_any_option(options: str) -> None:
    done = orcinus("verify", *SHORT, "--json", *options.split())
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["sampling"], each["way"]) for each in found if not each["holds"]] == []
    assert {each["sampling"] for each in found} == {"greedy", "drawn"}
    seen = {each["way"]: each["seen"] for each in found}
    assert seen["in a batch"] == "beside up to 7 others"
    assert seen["in chunks"] == "prompt in 6 chunks of up to 7 tokens"
    assert seen["with a cached prefix"] == "32 of 40 tokens from the cache"
    assert seen["after a preemption"] == "computed again after 2 output tokens"
    assert done.returncode == 0


def test_what_differs_is_said_and_the_status_is_1() -> None:
    done = orcinus("verify", *SHORT, "--attention", "reference")  # torch's sums depend on how many tokens it computes at once
    assert "others from output token " in done.stdout
    assert "These options promise nothing of bits" in done.stdout
    assert done.returncode == 1


def test_a_way_that_could_not_be_tried_is_no_proof() -> None:
    done = orcinus("verify", *SHORT, "--deterministic", "--max-batch-size", "1")
    assert done.stdout.count("not tried") == 6
    assert "a larger batch, are needed" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt-tokens", "100000"), "exceed the model's"),
        (("--deterministic", "--attention", "reference"), "deterministic needs attention cpu, not 'reference'"),
        (("--deterministic", "--tp", "2"), "deterministic is for a model on one device"),
    ],
)
def test_wrong_options_are_told_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = orcinus("verify", *arguments)
    assert message in done.stderr
    assert (len(done.stderr.splitlines()), done.returncode) == (1, 1)


def test_the_option_is_a_switch() -> None:
    with pytest.raises(ConfigError, match="deterministic must be True or False, not 'yes'"):
        LLM(deterministic="yes")
