"""Load on any server of the OpenAI API, in open or closed loops.

A request's life: `load` sends it when it is due, `pool` has a connection for it, `exchange` reads its answer (`events`
cuts the bytes into events, `frames` says what is in one, `tally` counts tokens) and leaves a record. Before a run, `probe`
finds out what the server understands, `prompts` makes up what is asked, and `bodies` writes it down ahead of time.
"""
