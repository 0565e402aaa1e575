"""The engine without a machine.

Standard library only: no clock, no thread, no I/O, no logging.
"""
