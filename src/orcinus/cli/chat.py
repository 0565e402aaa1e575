"""`orcinus chat`: a conversation in the terminal."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from orcinus.cli.options import takes_engine, takes_sampling
from orcinus.config import EngineConfig
from orcinus.core.request import SamplingParams
from orcinus.errors import RequestError

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

    The conversation so far is sent with every turn. Also reads turns from a pipe: `echo Hi | orcinus chat`
    """
    from orcinus.llm import LLM

    console = Console(highlight=False)
    with LLM.from_config(config) as llm:
        conversation = Conversation(llm, params, console, system)
        console.print(f"{llm.resolved.folder.name}, {llm.resolved.num_parameters / 1e6:.1f} M parameters", markup=False)
        console.print(HELP)
        while (line := _ask(console)) is not None:
            conversation.turn(line)


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
        elif command == "/system":
            self.reset(rest.strip() or None)
        elif line.startswith("/"):
            self.console.print(HELP)
        else:
            self.say(line)

    def say(self, text: str) -> None:
        """Send a user's message and print the answer as it comes. A turn that fails is taken back."""
        self.messages.append({"role": "user", "content": text})
        answer, tokens, start = "", 0, time.perf_counter()
        try:
            for piece in self.llm.stream(self.llm.encode_chat(self.messages), self.params):
                tokens += piece.token_id is not None
                answer += piece.text
                self.console.print(piece.text, end="", markup=False, emoji=False, soft_wrap=True)
                if piece.error:
                    raise RequestError(piece.error)
        except KeyboardInterrupt:
            self.console.print(" [dim](stopped)[/]", end="")
        except RequestError as error:
            self.messages.pop()
            self.console.print(f"error: {error}; /reset starts over", soft_wrap=True, markup=False)
            return
        rate = tokens / max(time.perf_counter() - start, 1e-9)
        self.console.print(f"\n[dim]{tokens} tokens, {rate:.0f} tokens/s[/]")
        self.messages.append({"role": "assistant", "content": answer})
