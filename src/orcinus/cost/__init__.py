"""How long an iteration takes, without a machine: devices, models, operators, collectives."""
