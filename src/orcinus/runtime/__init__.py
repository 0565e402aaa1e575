"""The machine: torch begins here. Devices, K/V tensors, weights, models, attention, sampling, execution."""
