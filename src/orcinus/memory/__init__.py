"""Memory planning in integer bytes: available, needed, and left over.

`budget.py` decides whether an engine fits, for real engines and simulated ones alike. Measurements with torch (free memory,
memory of an iteration) come from `runtime/device_memory.py` and `runtime/profile_run.py`.
"""
