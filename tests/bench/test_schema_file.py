"""The schema in the documentation is that of the code."""

from __future__ import annotations

import json
from pathlib import Path

from orcinus.bench.result import result_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "benchmark-result.schema.json"


def test_the_schema_in_the_documentation_is_that_of_the_code() -> None:
    """Mend it with `python -m tests.bench.test_schema_file`."""
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(result_schema()))


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(result_schema(), indent=1) + "\n")
