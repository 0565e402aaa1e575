"""Workloads: arrival processes, length distributions and traces, all seeded."""
