"""Kernels for CPUs, compiled by Numba: what a decoder does between its matrix products.

A torch operator takes 10 to 100 us for a batch of decodes, whatever little there is to do; one of these takes 1 to 5.
"""
