"""What `benchmarks/gpu.py` measures: one section a file, and around them where results, limits and tables are kept."""
