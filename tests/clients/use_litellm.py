"""litellm by its three roads to a server like ours."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the price list is not fetched

import litellm
from report import BASE, MODEL, check, leave, raised

litellm.telemetry = False
litellm.suppress_debug_info = True
HI = [{"role": "user", "content": "Hi"}]
COMMON = {"api_base": BASE, "api_key": "none", "temperature": 0, "max_tokens": 20, "num_retries": 0}

for road in ("hosted_vllm", "openai"):

    @check(f"{road}/: a chat")
    def chat(road: str = road) -> None:
        answer = litellm.completion(model=f"{road}/{MODEL}", messages=HI, **COMMON)
        assert answer.choices[0].message.content
        assert answer.usage.completion_tokens > 0

    @check(f"{road}/: streamed, with usage")
    def streamed(road: str = road) -> None:
        whole = litellm.completion(model=f"{road}/{MODEL}", messages=HI, **COMMON)
        chunks = list(
            litellm.completion(
                model=f"{road}/{MODEL}", messages=HI, stream=True, stream_options={"include_usage": True}, **COMMON
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        usage = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
        assert usage[-1].completion_tokens == whole.usage.completion_tokens

    @check(f"{road}/: errors by class")
    def errors(road: str = road) -> None:
        for changed, kind in ({"temperature": 5}, litellm.BadRequestError), ({"model": f"{road}/gpt-7"}, litellm.NotFoundError):
            fields = {"model": f"{road}/{MODEL}", "messages": HI} | COMMON | changed
            raised(kind, lambda fields=fields: litellm.completion(**fields))


@check("text-completion-openai/: whole and streamed")
def text() -> None:
    fields = {"model": f"text-completion-openai/{MODEL}", "prompt": "Once upon a time", **COMMON}
    whole = litellm.text_completion(**fields)
    assert whole.choices[0].text
    chunks = list(litellm.text_completion(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text or "" for chunk in chunks if chunk.choices) == whole.choices[0].text


@check("hosted_vllm/: logprobs, n, stop and seed")
def fields() -> None:
    answer = litellm.completion(
        model=f"hosted_vllm/{MODEL}", messages=HI, logprobs=True, top_logprobs=2, n=2, stop=["zzz"], seed=1, **COMMON
    )
    assert len(answer.choices) == 2
    assert answer.choices[0].logprobs.content


leave()
