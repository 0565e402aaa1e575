"""The control groups of this process: limits that a container sets (Linux, versions 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def control_groups(controller: str, proc: Path = PROC, root: Path = CGROUPS) -> Iterator[tuple[str, Path]]:
    """The folders of this process's group and its ancestors; none where the system has no groups.

    Each with the name of its hierarchy: `controller` in version 1, nothing in version 2.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:  # hierarchy:controllers:path; version 2 names no controllers
        _, controllers, path = line.split(":", 2)
        for hierarchy in {"", controller} & set(controllers.split(",")):
            top = root / hierarchy
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):  # inside a container the path may not exist: then its own group is the top
                yield hierarchy, folder
                if folder == top:
                    break


def cpu_quota(proc: Path = PROC, root: Path = CGROUPS) -> float | None:
    """CPU seconds per second that the groups allow this process; None = no limit."""
    found = [_quota(hierarchy, folder) for hierarchy, folder in control_groups("cpu", proc, root)]
    return min((quota for quota in found if quota is not None), default=None)


def _quota(hierarchy: str, group: Path) -> float | None:
    try:
        if hierarchy == "":
            quota, period = map(int, (group / "cpu.max").read_text().split())
        else:
            quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return None
    return quota / period if quota > 0 and period > 0 else None
