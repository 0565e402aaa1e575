"""A black-box checklist for OpenAI-compatible servers: requests go over HTTP, and nothing of the engine is imported."""
