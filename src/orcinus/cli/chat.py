"""`orcinus chat`: a conversation in the terminal."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from orcinus.cli.engine import engine
from orcinus.cli.errors import print_error
from orcinus.cli.options import takes_engine, takes_sampling
from orcinus.cli.word_wrap import WordWrap
from orcinus.config import EngineConfig
from orcinus.core.request import SamplingParams
from orcinus.errors import RequestError, RequestFailed

HELP = "[dim]/reset starts over · /system TEXT sets the system message · /exit or Ctrl-D leaves · Ctrl-C stops an answer[/]"


@takes_sampling(temperature=0.3)
@takes_engine()
def chat(
    system: Annotated[str | None, typer.Option("--system", help="System message.")] = None,
    *,
    config: EngineConfig,
    params: SamplingParams,
) -> None:
    """Talk with the model. The engine runs in this process.

    The conversation so far is sent with every turn, without its oldest turns when the context is full.
    Also reads turns from a pipe: `echo Hi | orcinus chat`
    """
    console = Console(highlight=False)
    with engine(config) as llm:
        conversation = Conversation(llm, params, console, system)
        name = config.model or "the bundled model"
        console.print(f"{name}, {llm.resolved.num_parameters / 1e6:.1f} M parameters", markup=False, soft_wrap=True)
        console.print(HELP)
        while (line := _ask(console)) is not None:
            conversation.turn(line)
    if conversation.failed and not console.is_terminal:
        raise RequestFailed(f"{conversation.failed} of the turns failed")


def _ask(console: Console) -> str | None:
    """The next line, or None when there will be no more."""
    try:
        line = console.input("[bold cyan]you>[/] " if console.is_terminal else "").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    return None if line in ("/exit", "/quit") else line


class Conversation:
    """The messages so far, and how a line changes them."""

    def __init__(self, llm: Any, params: SamplingParams, console: Console, system: str | None) -> None:
        self.llm, self.params, self.console = llm, params, console
        self.messages: list[dict[str, str]] = []
        self.failed = 0
        self.reset(system)

    def reset(self, system: str | None) -> None:
        """Forget everything but the system message."""
        self.system = system
        self.messages = [{"role": "system", "content": system}] if system else []

    def turn(self, line: str) -> None:
        """Do what a line says: a command, or something to answer."""
        if not line:
            return
        command, _, rest = line.partition(" ")
        if command == "/reset":
            self.reset(self.system)
            self.note("the conversation starts anew")
        elif command == "/system":
            self.reset(rest.strip() or None)
            self.note(f"system message {'set' if self.system else 'removed'}; the conversation starts anew")
        elif line.startswith("/"):
            self.note(f"there is no command {command}")
            self.console.print(HELP)
        else:
            self.say(line)

    def note(self, text: str) -> None:
        """Tell what was done, apart from what the model says."""
        self.console.print(Text(text, "dim"))

    def say(self, text: str) -> None:
        """Send a user's message and print the answer as it comes. A turn that fails is taken back."""
        self.messages.append({"role": "user", "content": text})
        answer, tokens, start = "", 0, time.perf_counter()
        wrapped = WordWrap(self.console)
        try:
            for piece in self.llm.stream(*self._fitting()):
                tokens += piece.token_id is not None
                answer += piece.text
                wrapped.write(piece.text)
                if piece.error:
                    raise RequestError(piece.error)
            wrapped.end()
        except KeyboardInterrupt:
            wrapped.end()
            self.console.print(" [dim](stopped)[/]", end="")
        except RequestError as error:
            self.messages.pop()
            self.failed += 1
            print_error(str(error))
            return
        rate = tokens / max(time.perf_counter() - start, 1e-9)
        self.console.print(f"\n[dim]{tokens} tokens, {rate:.0f} tokens/s[/]")
        self.messages.append({"role": "assistant", "content": answer})

    def _fitting(self) -> tuple[tuple[int, ...], SamplingParams]:
        """The conversation as tokens, without its oldest turns where the context has no room for them and an answer."""
        wanted = self.params.max_tokens or 1
        first = 1 if self.system else 0
        forgotten = 0
        while True:
            ids = self.llm.encode_chat(self.messages)
            room = self.llm.resolved.limits.max_model_len - len(ids)
            if room >= wanted or len(self.messages) == first + 1:
                break
            del self.messages[first : first + 2]  # a question and its answer
            forgotten += 1
        if forgotten:
            self.note(f"(the context is full: forgot {forgotten} of the oldest turns)")
        if self.params.max_tokens is None or room < 1:  # a message too long for any answer is for the engine to refuse
            return ids, self.params
        return ids, replace(self.params, max_tokens=min(room, wanted), min_tokens=min(room, self.params.min_tokens))
