"""lm-eval: log-likelihoods by echo, and answers by chat, on tiny tasks of our own, with the bundled model's tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENAI_API_KEY": ""}

from report import MODEL, MODEL_DIR, URL, check, leave

TASKS = Path(__file__).parent / "lm_eval_tasks"


def evaluate(kind: str, path: str, task: str, **more: Any) -> dict[str, Any]:
    """The results of a task."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    os.chdir(TASKS)  # where the tasks' data is
    given = {"model": MODEL, "base_url": f"{URL}{path}", "tokenizer": MODEL_DIR, "max_length": 512, "num_concurrent": 2} | more
    return lm_eval.simple_evaluate(
        model=kind,
        model_args=given,
        tasks=[task],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        apply_chat_template=kind == "local-chat-completions",
        bootstrap_iters=0,
        log_samples=True,
        confirm_run_unsafe_code=False,
    )


def completions(task: str, **more: Any) -> dict[str, Any]:
    return evaluate("local-completions", "/v1/completions", task, **more)


@check("local-completions: log-likelihoods of choices, prompts as ids")
def choice() -> None:
    result = completions("orcinus_choice", tokenizer_backend="huggingface")["results"]["orcinus_choice"]
    assert result["acc,none"] == 1.0, result


@check("local-completions: log-likelihoods, prompts as text and in batches")
def choice_of_text() -> None:
    found = completions("orcinus_choice", tokenizer_backend="huggingface", tokenized_requests=False)
    assert found["results"]["orcinus_choice"]["acc,none"] == 1.0


@check("local-completions: the tokenizer of the server")
def remote() -> None:
    found = completions("orcinus_choice", tokenizer_backend="remote")
    assert found["results"]["orcinus_choice"]["acc,none"] == 1.0


@check("local-completions: rolling log-likelihood")
def rolling() -> None:
    result = completions("orcinus_rolling", tokenizer_backend="huggingface")["results"]["orcinus_rolling"]
    assert 0.1 < result["bits_per_byte,none"] < 8, result


@check("local-completions: generate_until")
def say_text() -> None:
    found = completions("orcinus_say", tokenizer_backend="huggingface")
    assert all(sample["filtered_resps"][0] for sample in found["samples"]["orcinus_say"])


@check("local-chat-completions: generate_until")
def say() -> None:
    found = evaluate("local-chat-completions", "/v1/chat/completions", "orcinus_say")
    assert found["results"]["orcinus_say"]["exact_match,none"] == 1.0, [
        one["filtered_resps"] for one in found["samples"]["orcinus_say"]
    ]


leave()
