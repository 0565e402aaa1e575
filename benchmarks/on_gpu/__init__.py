"""The sections of `benchmarks/gpu.py`, one a file, and their harness."""

from importlib.util import find_spec

if find_spec("orcinus") is None:
    raise SystemExit("gpu.py: there is no orcinus here: run it with PYTHONPATH=src from the root of the repository")
