"""Studies: experiments measured on a real model of this machine, by name."""

from __future__ import annotations

from orcinus.errors import ConfigError
from orcinus.papers.measured.chunks import Chunks
from orcinus.papers.measured.orca import OrcaCurves
from orcinus.papers.measured.paging import Paging
from orcinus.papers.measured.stalls import Stalls
from orcinus.papers.measured.study import Study

STUDIES: tuple[Study, ...] = (OrcaCurves(), Stalls(), Chunks(), Paging())


def choose(names: str | None) -> tuple[Study, ...]:
    """Studies by name, as in `stalls,orca`; default: all. Raises `ConfigError`."""
    known = {study.name: study for study in STUDIES}
    wanted = {name.strip() for name in (names or "").split(",")} - {""}
    for name in sorted(wanted - known.keys()):
        raise ConfigError(f"there is no study {name!r}: choose among {', '.join(known)}")
    return tuple(study for study in STUDIES if study.name in wanted) if wanted else STUDIES
