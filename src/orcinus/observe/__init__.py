"""Observers that turn batches and events into metrics, timelines and records."""
