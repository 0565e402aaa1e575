"""Mutation score: the share of random code changes that tests detect.

`python -m tools.mutants --count 300 src/orcinus/core` runs, for every mutant, the tests that reach the changed function, in a
forked process that loads the mutated module in place of the real one. Prints the survivors, and the score with its 95 %
confidence interval. Mutants come in random order, so Ctrl-C leaves a smaller sample that is as good.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PYTEST = ["-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
TESTS = ("tests/core", "tests/contracts/test_every_policy_and_manager.py")
CPU_SECONDS = 120  # limit of a mutant's tests, which stops endless loops
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change of a file: a node of the walk, replaced.

    `place` is the node's index, `variant` the number of its replacement.
    """

    file: Path
    place: int
    variant: int
    line: int
    function: int  # its first line; 0: the change is outside of functions and runs before any test
    text: str

    def code(self) -> CodeType:
        tree = ast.parse(self.file.read_text(encoding="utf-8"))
        old = list(mutable(tree))[self.place]
        new = ast.copy_location(variants(old)[self.variant], old)
        return compile(ast.fix_missing_locations(_Replace(old, new).visit(tree)), str(self.file), "exec")

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.text}"


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def mutable(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that mutants may change, in a fixed order.

    Annotations, decorators, imports and texts are left out: no behaviour depends on them.
    """
    yield tree
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr):
                yield from mutable(node)


def variants(node: ast.AST) -> list[ast.AST]:
    """Possible replacements of a node."""
    match node:
        case ast.stmt():
            return list(_statements(node))
        case ast.expr():
            return list(_expressions(node))
        case ast.comprehension(ifs=[_, *_]):
            return [ast.comprehension(node.target, node.iter, [], node.is_async)]
    return []


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.If() | ast.While():
            yield from (type(node)(ast.Constant(truth), node.body, node.orelse) for truth in (True, False))
        case ast.Assign() | ast.Raise() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.AugAssign() if type(node.op) in OPERATORS:
            yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
            yield ast.Pass()
        case ast.Return(value=ast.expr()):
            yield ast.Return(ast.Constant(None))
        case ast.Break() | ast.Continue():
            yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(ops=[operator]):
            yield from (ast.Compare(node.left, [other()], node.comparators) for other in COMPARISONS[type(operator)])
        case ast.BoolOp():
            yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
            yield from node.values
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp() if type(node.op) in OPERATORS:
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield ast.Call(ast.Name(CALLS[name], ast.Load()), node.args, node.keywords)
        case ast.Slice():
            if node.lower:
                yield ast.Slice(None, node.upper, node.step)
            if node.upper:
                yield ast.Slice(node.lower, None, node.step)


def mutants(file: Path) -> Iterator[Mutant]:
    """All mutants of one file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    home = dict[int, int]()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):  # the innermost comes last
        first = (function.decorator_list[0] if function.decorator_list else function).lineno
        home |= {id(node): first for statement in function.body for node in ast.walk(statement)}
    for place, node in enumerate(mutable(tree)):
        if isinstance(node, ast.Assign | ast.Expr) and id(node) not in home:
            continue  # a module without one of its names cannot even be imported
        for variant, new in enumerate(variants(node)):
            line = min(one.lineno for one in ast.walk(node) if isinstance(one, ast.expr | ast.stmt))
            old, text = (ast.unparse(each).splitlines()[0] for each in (node, new))
            yield Mutant(file, place, variant, line, home.get(id(node), 0), f"`{old}` -> `{text}`")


class _Finder(importlib.abc.MetaPathFinder):
    """Imports one module from the code of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = ".".join(mutant.file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.mutant.file, loader=_Loader(self.mutant, name))


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, mutant: Mutant, name: str) -> None:
        super().__init__(name, str(mutant.file))
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return self.mutant.code()


class _Reach:
    """A pytest plugin: the functions of a folder each test reaches.

    Functions are given by file and first line. It also measures each test's CPU seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.functions = str(folder), dict[str, list[tuple[str, int]]]()
        self.seconds = dict[str, float]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        seen, began = set[tuple[str, int]](), time.process_time()

        def called(frame: FrameType, event: str, value: object) -> None:
            seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

        sys.settrace(called)
        try:
            result = yield
        finally:
            sys.settrace(None)
        self.functions[item.nodeid] = [(file, line) for file, line in seen if file.startswith(self.folder)]
        self.seconds[item.nodeid] = time.process_time() - began
        return result


def in_child(work: Callable[[], int], seconds: int = resource.RLIM_INFINITY, *, quiet: bool = False) -> int:
    """Exit status of `work` in a forked process.

    It is below 0 if a signal ended the process.
    """
    process = os.fork()
    if process == 0:
        if quiet:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def reach(folder: Path, found: Path) -> dict[str, set[tuple[str, int]]]:
    """The functions that each test reaches; the quickest test is first."""

    def work() -> int:
        plugin = _Reach(folder)
        status = pytest.main([*PYTEST, *TESTS], plugins=[plugin])
        found.write_text(json.dumps([plugin.functions, plugin.seconds]), encoding="utf-8")
        return int(status)

    assert in_child(work) == 0, "the tests fail without a mutant"
    functions, seconds = json.loads(found.read_text(encoding="utf-8"))
    return {test: set(map(tuple, functions[test])) for test in sorted(seconds, key=seconds.__getitem__)}


def survives(mutant: Mutant, tests: Sequence[str]) -> bool:
    def work() -> int:
        sys.meta_path.insert(0, _Finder(mutant))
        return int(pytest.main([*PYTEST, "-x", *tests]))

    return in_child(work, CPU_SECONDS, quiet=True) == 0


def reaches(functions: set[tuple[str, int]], file: str, line: int) -> bool:
    return (file, line) in functions if line else any(name == file for name, _ in functions)


def interval(successes: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share."""
    share, spread = successes / count, z * z / count
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder or file to change")
    parser.add_argument("--count", type=int, default=300, help="mutants to draw (default: 300)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    folder = options.folder.resolve()
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]
    every = [mutant for file in files for mutant in mutants(file)]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    import hypothesis  # noqa: F401  (loaded once here, not in every child)
    import torch  # noqa: F401

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = scratch
        reached = reach(folder, Path(scratch) / "reached.json")
        counts: Counter[str] = Counter()
        try:
            for mutant in chosen:
                file, line = str(mutant.file), mutant.function
                asked = [test for test, functions in reached.items() if reaches(functions, file, line)]
                alive = not asked or survives(mutant, asked)
                counts["survived" if alive else "killed"] += 1
                if alive:
                    print(f"{mutant}" + ("" if asked else "  (no test reaches it)"), flush=True)
        except KeyboardInterrupt:
            pass
    count = counts.total()
    low, high = interval(counts["killed"], max(1, count))
    print(
        f"{counts['killed']} of {count} mutants killed: {counts['killed'] / max(1, count):.1%} ({low:.1%} to {high:.1%}, 95 %)"
    )
    print(f"drawn from {len(every)} in {len(files)} files, with seed {options.seed}")


if __name__ == "__main__":
    main()
