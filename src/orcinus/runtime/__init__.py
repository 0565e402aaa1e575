"""Everything that runs on torch: devices, weights, models, attention, sampling, execution."""
