"""Load generators for servers of the OpenAI API.

Open and closed loops. A request's life: `load_generator` sends it when it is due, `pool` has a connection for it,
`exchange` reads its answer (`events` cuts the bytes into events, `frames` parses them, `tally` counts tokens) and leaves a
record. Before a run, `probe` finds out what the server understands, `prompts` makes up the prompts, and `bodies` writes
requests ahead of time.
"""
