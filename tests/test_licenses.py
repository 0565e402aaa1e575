"""`orcinus licenses`: every installed dependency has a licence that is allowed, and one that has not is told."""

from __future__ import annotations

import json
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest

from orcinus import licenses
from orcinus.licenses import LicenseKind, dependencies, kind_of, license_of
from tests.commands import orcinus


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("MIT", LicenseKind.PERMISSIVE),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", LicenseKind.PERMISSIVE),
        ("MPL-2.0 AND MIT", LicenseKind.WEAK_COPYLEFT),
        ("GPL-3.0-only OR MIT", LicenseKind.PERMISSIVE),
        ("(GPL-3.0-only OR MIT) AND LGPL-2.1-or-later", LicenseKind.COPYLEFT),
        ("AGPL-3.0-only", LicenseKind.COPYLEFT),
        ("GPL-2.0-only WITH Classpath-exception-2.0", LicenseKind.COPYLEFT),
        ("LicenseRef-Proprietary", LicenseKind.OTHER),
        ("MIT AND Proprietary", LicenseKind.OTHER),
        ("unknown", LicenseKind.UNKNOWN),
    ],
)
def test_of_or_the_freest_counts_and_of_and_the_strictest(expression: str, kind: LicenseKind) -> None:
    assert kind_of(expression) is kind


def package(**fields: Any) -> Any:
    metadata = Message()
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            metadata[name.replace("_", "-")] = value
    return SimpleNamespace(metadata=metadata, version="1", requires=None)


MIT = "License :: OSI Approved :: MIT License"
TEXT = "Copyright (c) 2026, some people. All rights reserved. " * 20


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "apache-2.0 or mit"}, "Apache-2.0 OR MIT"),
        ({"License": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"License": TEXT, "Classifier": ["Programming Language :: Python", MIT]}, "MIT"),
        ({"License": "see file", "Classifier": MIT}, "MIT"),
        ({"License": "see file"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_a_licence_is_found_in_new_and_old_metadata(fields: dict[str, Any], expected: str) -> None:
    assert license_of(package(**fields)) == expected


def test_all_that_is_installed_here_is_allowed() -> None:
    found = {one.name.lower(): one for one in dependencies()}
    assert {"torch", "fastapi", "hypothesis", "numpy", "starlette"} <= found.keys()
    assert [one for one in found.values() if not one.allowed] == []
    assert "pip" not in found, "it is installed, and nothing of ours needs it"


def test_the_command_lists_them() -> None:
    done = orcinus("licenses", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    (torch,) = (row for row in rows if row["name"] == "torch")
    assert (torch["kind"], torch["home"][:8]) == ("permissive", "https://")


def test_what_is_not_allowed_is_told_and_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licenses, "PERMISSIVE", licenses.PERMISSIVE - {"PSF-2.0"})
    done = orcinus("licenses")
    assert done.returncode == 1
    assert "typing_extensions is PSF-2.0 (other): not allowed" in done.stdout
    assert "tqdm is MPL-2.0 AND MIT (weak copyleft): allowed" in done.stdout
