"""Tool calls: the forms in which open models write them, parsed, enforced, and found by the chat template."""
