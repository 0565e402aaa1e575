"""The real engine under a virtual clock.

A cost model stands in for the machine.
"""
