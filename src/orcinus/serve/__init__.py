"""The OpenAI-compatible server: one process for HTTP, one for the engine."""
