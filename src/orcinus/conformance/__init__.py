"""A black-box checklist for OpenAI-compatible servers, over HTTP alone."""
