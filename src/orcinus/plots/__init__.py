"""Pictures, with matplotlib: colours that the colour-blind can tell apart, and files that need nothing else."""
