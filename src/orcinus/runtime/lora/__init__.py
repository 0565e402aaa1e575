"""LoRA adapters (Hu et al., 2021): low-rank updates of a model's linear layers, chosen by each request."""
