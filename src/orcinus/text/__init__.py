"""Strings and token ids: tokenizer and chat template, text piece by piece, stop strings."""
