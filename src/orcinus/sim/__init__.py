"""The real engine under a virtual clock, with a cost model for a machine."""
