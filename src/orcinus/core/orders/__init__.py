"""Queue orders, whatever the policy. One order a file, one line here."""

from __future__ import annotations

from orcinus.core.orders.fair import Fair
from orcinus.core.orders.fcfs import FCFS
from orcinus.core.orders.priority import Priority
from orcinus.core.orders.shortest_first import ShortestFirst
from orcinus.core.ports import Order

ORDERS: dict[str, type[Order]] = {
    "fcfs": FCFS,
    "priority": Priority,
    "shortest-first": ShortestFirst,
    "fair": Fair,
}

__all__ = ["FCFS", "ORDERS", "Fair", "Priority", "ShortestFirst"]
