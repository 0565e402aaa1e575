"""The GPU path: captured graphs, and sampling on the device."""
