"""How long an iteration takes and what fits in memory, without a machine: devices, models, operators, collectives."""
