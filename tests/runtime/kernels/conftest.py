"""The same set-up for all tests of kernels and of what is built from them."""

from tests.interpreter import collect_ignore_glob, interpreted, nothing_remembered, pytest_collection_finish

__all__ = ["collect_ignore_glob", "interpreted", "nothing_remembered", "pytest_collection_finish"]
