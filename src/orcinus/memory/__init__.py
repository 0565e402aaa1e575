"""Memory planning, as integers: what there is, what is taken, whether it fits.

`budget.py` decides whether it fits, for real engines and simulated ones alike. What is asked of torch (how much memory is
free, what an iteration takes when it is run) comes from `runtime/device_memory.py` and `runtime/profile_run.py`.
"""
