"""Pictures with matplotlib, in colours that the colour-blind can distinguish."""
