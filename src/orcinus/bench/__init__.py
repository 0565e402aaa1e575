"""Benchmarks: load generators, comparisons and reports."""
