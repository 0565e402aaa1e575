"""Published experiments run again in the simulator, number beside number."""
