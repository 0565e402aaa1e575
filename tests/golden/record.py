"""Writes bundled.json: what `transformers` generates for 20 prompts with the bundled model, greedily, in float32.

    python -m tests.golden.record

To be run only when the bundled model changes. The engine is not asked: it is what the file is held against.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).with_name("bundled.json")
MAX_TOKENS = 96
QUESTIONS = [
    "Hi",
    "Hello there!",
    "What is Orca?",
    "What is SARATHI?",
    "Explain the KV cache.",
    "What is a decode?",
    "what is iteration-level scheduling",
    "Give me a pasta idea.",
    "Explain quantum physics for beginners.",
    "Tell me a story about a dragon.",
    "Tell me a short story about a lighthouse keeper.",
    "Why is the sky blue?",
    "Tell me a joke.",
    "Who are you?",
    "What do orcas eat?",
    "Who won the football match yesterday?",
    "Thanks!",
]
TEXTS = ["Once upon a time", "The sea", "A"]


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from orcinus.text.tokenizer import load_tokenizer
    from orcinus.tiny import MODEL_DIR

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    ours = load_tokenizer(MODEL_DIR)
    assert ours is not None
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    records = []
    for text in [*QUESTIONS, *TEXTS]:
        if text in QUESTIONS:
            message = [{"role": "user", "content": text}]
            prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"]
        else:
            prompt = tokenizer(text).input_ids
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=False)
        tokens = out[0, len(prompt) :].tolist()
        records.append({"text": text, "prompt": prompt, "tokens": tokens, "answer": ours.decode(tokens)})
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
