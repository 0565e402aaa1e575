"""Kernels for CPUs, compiled by Numba: what a decoder does between its matrix products.

torch takes as long to call an operator as a kernel takes to do the work of several, for a batch of decodes.
"""
