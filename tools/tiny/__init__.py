"""How the bundled model was made: its texts, its tokenizer, its training, its card."""
