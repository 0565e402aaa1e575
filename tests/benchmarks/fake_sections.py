"""A process that runs sections for `supervise` without measuring anything: what goes wrong is said in their results file.

fake_sections.py FILE HABITS SECTION ...    where HABITS is JSON: section -> "dies", "hangs" or "refuses"
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from on_gpu.results import Results

results, habits, names = Results(Path(sys.argv[1])), json.loads(sys.argv[2]), sys.argv[3:]
if "refuses" in habits.values():
    os._exit(2)
if habits.get(names[0]) == "dies before it begins":
    os._exit(1)
for name in names:
    results.begin(name, time.time() + 0.1, None)
    if habits.get(name) == "dies":
        os._exit(139)
    if habits.get(name) == "hangs":
        time.sleep(60)
    results.end(name, "done", "", 0.1)
