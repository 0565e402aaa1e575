"""What arrives: arrival processes, length distributions and traces, all of them seeded. Nothing here knows an engine."""
