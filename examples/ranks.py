"""The same answers from one device and from four ranks: `python examples/ranks.py`, in about half a minute.

Two stages share out the layers of the bundled model, and two tensor ranks share each stage.
"""

from __future__ import annotations

from orcinus import LLM, SamplingParams

PROMPTS = ["Tell me a story about a fox.", "What is iteration-level scheduling?", "Why is the sky blue?"]
GREEDY = SamplingParams(temperature=0, max_tokens=40)


def answers(**ranks: int) -> list[str]:
    """Greedy answers to all prompts; `ranks` are `tp` and `pp`."""
    with LLM(dtype="float32", **ranks) as llm:
        conversations = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
        return [output.text for output in llm.chat(conversations, GREEDY)]


if __name__ == "__main__":
    alone, shared = answers(), answers(tp=2, pp=2)
    for prompt, answer in zip(PROMPTS, shared, strict=True):
        print(f"> {prompt}\n{answer}\n")
    print("The same as on one device." if alone == shared else f"On one device: {alone}")
