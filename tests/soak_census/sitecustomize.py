"""Counts the objects of every Python process that has this folder on its PYTHONPATH: see `tests.soak`.

Each writes what it counted into a file of its own, again and again: `$SOAK_CENSUS/PID.json`.
"""

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections import Counter

EVERY_S = 20.0
ALONE_S = 1.0  # more than a count takes
MOST_TYPES = 60


class _Malloc(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33; all are sizes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def malloc_bytes() -> int:
    """Bytes that the C library's callers hold: without its free memory, which resident memory includes. 0 without glibc."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return 0
    mallinfo.restype = _Malloc
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def count() -> dict[str, object]:
    """Objects that the garbage collector knows, by type; asyncio's tasks and timers among them. What both allocators hold.

    Garbage is collected first: between two of Python's own searches it may be a quarter of all objects. No other thread may run
    while their list exists: Python cannot finish a tuple that another one can see.
    """
    gc.collect()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(ALONE_S)
    time.sleep(2 * usual)  # threads that wait already still wait by the old interval
    found = Counter(map(type, gc.get_objects()))
    sys.setswitchinterval(usual)
    types = {f"{kind.__module__}.{kind.__qualname__}": number for kind, number in found.most_common()}
    return {
        "objects": found.total(),
        "allocations": sys.getallocatedblocks(),
        "heap": malloc_bytes(),
        "tasks": sum(number for name, number in types.items() if name.endswith(".Task")),
        "timers": sum(number for name, number in types.items() if name.endswith("TimerHandle")),
        "types": dict(list(types.items())[:MOST_TYPES]),
    }


def write_counts(folder: str) -> None:
    """Count until the process ends."""
    path = os.path.join(folder, f"{os.getpid()}.json")
    while True:
        time.sleep(EVERY_S)
        with open(path + ".new", "w") as file:
            json.dump(count(), file)
        os.replace(path + ".new", path)


if (folder := os.environ.get("SOAK_CENSUS")) and any("orcinus" in word for word in sys.orig_argv):
    threading.Thread(target=write_counts, args=(folder,), name="census", daemon=True).start()
