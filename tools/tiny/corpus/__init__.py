"""The texts from which the bundled model learns, all of them written for it, and the sampler that combines them."""
