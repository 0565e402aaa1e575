"""The bundled model's training texts, and the sampler that combines them.

All texts were written for it.
"""
