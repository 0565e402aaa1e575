"""Formats of answers, one module per API dialect."""
