"""The page of a server: its files, and how they become a page."""

from orcinus.page.assets import POLICY, find, index, standalone

__all__ = ["POLICY", "find", "index", "standalone"]
