"""The engine without a machine: standard library only, no clock, no thread, no I/O, no logging."""
