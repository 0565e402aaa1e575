"""The checklist, run against our own server: a test a check. `make conformance` runs the slow ones too."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from orcinus.conformance.checklist import FAIL, SKIP, chosen, run
from orcinus.conformance.registry import Check
from orcinus.conformance.target import ServerUnderTest
from tests.product import part
from tests.serve.conftest import Running


@pytest.fixture(scope="module")
def target(server: Running) -> Iterator[ServerUnderTest]:
    found = ServerUnderTest(server.url)
    yield found
    found.close()


def some_of_each_subject() -> list[Check]:
    """Every twelfth check of a subject, and at least one."""
    fast = [one for one in chosen() if not one.slow]
    subjects = [list(checks) for _, checks in groupby(fast, key=lambda one: one.name.partition(":")[0])]
    return [one for checks in subjects for one in checks[::12]]


SOME = some_of_each_subject()
REST = [one for one in chosen() if not one.slow and one not in SOME]


@pytest.mark.parametrize("one", part(*SOME, full=REST), ids=lambda one: one.name)
def test_the_server_passes(target: ServerUnderTest, one: Check) -> None:
    result = run(one, target)
    if result.outcome == SKIP:
        pytest.skip(result.why)
    assert result.outcome != FAIL, result.why
