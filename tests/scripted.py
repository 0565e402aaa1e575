"""Models that say what a test wants: after each token comes a certain other one, whatever stands before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as hf

WIDTH = 64  # of a head: with the bundled model's heads, its compiled kernel serves here, too


def save_scripted(folder: Path, tokenizer: Any, follows: Mapping[int, int], template: str | None = None) -> Path:
    """A checkpoint of a Llama that follows each token with another; tokens without an entry are followed by themselves."""
    size = len(tokenizer)
    hidden = -(-size // (2 * WIDTH)) * 2 * WIDTH
    config = hf.LlamaConfig(
        vocab_size=size,
        hidden_size=hidden,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=hidden // WIDTH,
        num_key_value_heads=hidden // WIDTH // 2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()  # no layer adds anything: the head sees the newest token alone
        model.get_input_embeddings().weight[:, :size] = torch.eye(size)
        for token in range(size):
            model.get_output_embeddings().weight[follows.get(token, token), token] = 10.0
    model.save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder
