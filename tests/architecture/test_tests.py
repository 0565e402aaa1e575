"""What tests may not assert: how fast something was."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source import ROOT, Function

CLOCKS = {"monotonic", "perf_counter", "process_time", "monotonic_ns", "perf_counter_ns", "process_time_ns"}
FILES = sorted(set((ROOT / "tests").rglob("*.py")) - {ROOT / "tests" / "waiting.py"})


class Clocks:
    """What a function reads off clocks: moments, and durations, which are differences of them."""

    def __init__(self, function: Function) -> None:
        self._moments, self._durations = set[str](), set[str]()
        for _ in range(3):  # of names assigned from names
            for node in ast.walk(function):
                for name, value in _assigned(node):
                    if self.is_duration(value):
                        self._durations.add(name)
                    elif self._is_moment(value):
                        self._moments.add(name)

    def _is_moment(self, value: ast.AST) -> bool:
        return any(_is_reading(node) or (isinstance(node, ast.Name) and node.id in self._moments) for node in ast.walk(value))

    def is_duration(self, value: ast.AST) -> bool:
        for node in ast.walk(value):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) and self._is_moment(node.right):
                return True
            if isinstance(node, ast.Name) and node.id in self._durations:
                return True
        return False

    def speeds(self, assertion: ast.Assert) -> bool:
        """Whether it bounds a duration from above, or compares the present with a deadline."""
        return any(
            self.is_duration(smaller) or any(map(_is_reading, ast.walk(smaller)))
            for compared in ast.walk(assertion)
            if isinstance(compared, ast.Compare)
            for smaller in _smaller(compared)
        )


def _is_reading(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Tuple(names)], value=ast.Tuple(values)):
            yield from ((name.id, value) for name, value in zip(names, values, strict=True) if isinstance(name, ast.Name))
        case ast.Assign(targets=[target], value=value):
            yield from ((name.id, value) for name in ast.walk(target) if isinstance(name, ast.Name))
        case ast.Call(func=ast.Attribute(ast.Name(name), "append"), args=[value]):
            yield name, value


def _smaller(compared: ast.Compare) -> Iterator[ast.expr]:
    """The operands that are said to be less than another."""
    for left, operator, right in zip([compared.left, *compared.comparators], compared.ops, compared.comparators, strict=False):
        if isinstance(operator, ast.Lt | ast.LtE):
            yield left
        elif isinstance(operator, ast.Gt | ast.GtE):
            yield right


def asserted_speeds(code: str) -> list[str]:
    if not any(clock in code for clock in CLOCKS):
        return []
    functions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, Function)]
    return [
        ast.unparse(node)
        for function in functions
        for clocks in [Clocks(function)]
        for node in ast.walk(function)
        if isinstance(node, ast.Assert) and clocks.speeds(node)
    ]


def test_no_test_asserts_a_speed() -> None:
    """A bound against hanging is `within` or `wait_until` of tests/waiting.py; at least so long may be asserted."""
    found = {file.name: asserted_speeds(file.read_text(encoding="utf-8")) for file in FILES}
    assert {name: speeds for name, speeds in found.items() if speeds} == {}


@pytest.mark.parametrize(
    ("body", "is_speed"),
    [
        ("began = time.monotonic(); assert time.monotonic() - began < 1", True),
        ("began = time.monotonic(); took = 1000 * (time.monotonic() - began); assert 5 >= took", True),
        ("began, n = time.perf_counter(), 2; assert 0.4 <= time.perf_counter() - began < 3", True),
        ("until = time.monotonic() + 10; assert time.monotonic() < until", True),
        ("seen.append(time.monotonic()); assert seen[1] - seen[0] <= 5", True),
        ("gone = time.monotonic(); assert max(event['at'] for event in events) - gone < 0.25", True),
        ("began = time.monotonic(); assert time.monotonic() - began >= 0.4", False),
        ("answered = time.monotonic(); assert event['at'] > answered", False),
        ("asked = time.monotonic(); assert event['at'] > asked - 1", False),
        ("took, count = time.monotonic() - began, 3; assert count < 5", False),
    ],
)
def test_speeds_are_recognised(body: str, is_speed: bool) -> None:
    assert bool(asserted_speeds(f"def test(): {body}")) == is_speed
