"""The page of a server: its files, and how they become a page."""

from orcinus.page.assets import find, index, standalone

__all__ = ["find", "index", "standalone"]
