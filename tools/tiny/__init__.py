"""How the bundled model was made: texts, tokenizer, training, card."""
