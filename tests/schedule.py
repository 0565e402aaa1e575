"""Which tests go to which process of `pytest -n`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]


class OneProcessAFixture(LoadScopeScheduling):  # type: ignore[misc]
    """Every test goes to a free process, but those of a file with fixtures for the whole file stay together.

    Else each process would start the file's server, load its model or draw its pictures again. Marks of groups, which are
    to say the same, do nothing with pytest 9.2 and xdist 3.8: a test's id can no longer be changed, and xdist reads them
    from there.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if shares(file) else nodeid


@cache
def shares(file: str) -> bool:
    """Whether the tests of a file, named from the root of the repository, have a fixture in common."""
    return 'scope="module"' in (ROOT / file).read_text(encoding="utf-8")
