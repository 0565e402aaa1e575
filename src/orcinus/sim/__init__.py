"""The engine without a model: the same Engine object under a virtual clock, with a cost model in place of a machine."""
