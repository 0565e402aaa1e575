"""What `benchmarks/gpu.py` measures: one section a file, and around them where results, limits and tables are kept."""

from importlib.util import find_spec

if find_spec("orcinus") is None:
    raise SystemExit("gpu.py: there is no orcinus here: run it with PYTHONPATH=src from the root of the repository")
