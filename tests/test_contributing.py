"""The worked examples of CONTRIBUTING.md are run as they stand there."""

from __future__ import annotations

import ast
import itertools
import os
import random
import re
import shutil
import subprocess
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

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which the example is registered, with the one file and the one line of the page."""
    (file, code), (registry, line) = BLOCKS[:2]
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


SERVES = """
import os
from orcinus.core.component_spec import make_order
from orcinus.core.policies.orca import Orca
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.observe.timeline import TimelineObserver
from orcinus.serve.messages import Submit
from orcinus.serve.request_context import request_context
from orcinus.serve.schema import CompletionBody
from orcinus.serve.wire import decode_to_engine, encode
from orcinus.core.request import Request
from tests.worlds import build_world
import orcinus
assert orcinus.__file__.startswith(os.environ["PYTHONPATH"].split(os.pathsep)[0]), orcinus.__file__

bodies = [CompletionBody.model_validate({"prompt": "x", "tier": tier} if tier else {"prompt": "x"}) for tier in (7, 0, 3)]
contexts = [request_context(body, None) for body in bodies]

world = build_world(Orca(), "paged", order="tier", limits=Limits(max_batch_size=1, max_batch_tokens=64, max_model_len=40))
params = SamplingParams(max_tokens=2, seed=0)
for number, context in enumerate(contexts):
    sent = decode_to_engine(encode(Submit(f"r{number}", (1, 2), params, context)))
    world.engine.submit(Request(sent.id, sent.prompt, sent.params, float(number), sent.context))
while not world.engine.idle:
    world.engine.step()
print(*world.record.endings)
"""


def with_class_fields(source: str, block: str) -> str:
    """A module with the fields of the block's class behind those that its class of that name has."""
    head, fields = block.split("\n", 1)
    name = head.removeprefix("class ").removesuffix(":")
    found = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name == name)
    last = max(one.end_lineno or 0 for one in found.body if isinstance(one, ast.AnnAssign))
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:last], fields, *lines[last:]])


def with_registered(source: str, block: str) -> str:
    """A module with the block's import, and its line in the dict that the block names."""
    imported, registry = block.split("\n\n", 1)
    head, line = registry.split("\n")[0], registry.split("\n")[-3]
    assert head in source
    return source.replace(head, f"{imported}\n\n{head}\n{line}")


def test_a_field_of_a_request_is_four_files(tmp_path: Path) -> None:
    """From an HTTP body to the order in which requests are served."""
    changes = BLOCKS[2:6]
    assert len(changes) == 4
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file, block in changes:
        path = tmp_path / file
        if not path.exists():
            path.write_text(block, encoding="utf-8")
            continue
        change = with_class_fields if block.startswith("class ") else with_registered
        path.write_text(change(path.read_text(encoding="utf-8"), block), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", SERVES], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["r1", "r2", "r0"], done.stderr
