"""`orcinus bench`: measure speed, compare it, and check the measurement."""
