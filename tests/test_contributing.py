"""The worked example of CONTRIBUTING.md: the policy it adds is run as it stands there."""

from __future__ import annotations

import itertools
import random
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orcinus import LLM, SamplingParams
from orcinus.core.component_spec import make_policy
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.errors import ConfigError
from tests.worlds import build_world, check_all, random_jobs, run

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which the example is registered, with the one file and the one line of the page."""
    (file, code), (registry, line) = BLOCKS
    assert file.startswith("src/orcinus/core/policies/")
    assert registry == "src/orcinus/core/policies/__init__.py"
    module = ModuleType(file.removeprefix("src/").removesuffix(".py").replace("/", "."))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, file, "exec"), module.__dict__)
    new = re.findall(r'"(\S+)": (\w+),', line)
    assert len(new) == 1, "one line"
    monkeypatch.setitem(POLICIES, new[0][0], getattr(module, new[0][1]))
    return str(new[0][0])


def test_the_example_keeps_the_contract(name: str) -> None:
    for seed, (order, kv, depth) in enumerate(itertools.product(ORDERS, KV_MANAGERS, (1, 2))):
        jobs = random_jobs(random.Random(seed), 25, cancels=True)
        world = build_world(make_policy(f"{name}:size=2"), kv, depth=depth, order=order)
        check_all(world, jobs, run(world, jobs))


def test_its_option_is_an_option(name: str) -> None:
    with pytest.raises(ConfigError, match="size of the policy"):
        make_policy(f"{name}:size=0")


def test_it_serves_the_real_model(name: str) -> None:
    params = SamplingParams(max_tokens=6, temperature=0)
    with LLM(policy=name, max_batch_size=2, dtype="float32") as ours, LLM(max_batch_size=1, dtype="float32") as plain:
        prompts = ["Hello", "Once upon a time", "The sea", "Hi"]
        assert [o.token_ids for o in ours.generate(prompts, params)] == [o.token_ids for o in plain.generate(prompts, params)]
