"""`orcinus chat`: a conversation in the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from orcinus import interrupt
from orcinus.cli.chat_backends import ChatBackend, InProcess, Server, engine_options_beside_model
from orcinus.cli.engine import engine
from orcinus.cli.errors import print_error
from orcinus.cli.options import takes_engine, takes_sampling
from orcinus.cli.word_wrap import WordWrap
from orcinus.config import EngineConfig
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError, RequestError, RequestFailed

KEYS = ["ORCINUS_API_KEY", "OPENAI_API_KEY"]
HELP = "[dim]/reset starts over · /system TEXT sets the system message · /exit or Ctrl-D leaves · Ctrl-C stops an answer[/]"


@takes_sampling(temperature=0.3)
@takes_engine()
def chat(
    system: Annotated[str | None, typer.Option("--system", help="System message.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Talk to this server instead: http://127.0.0.1:8000")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="Its API key.", envvar=KEYS)] = None,
    *,
    config: EngineConfig,
    params: SamplingParams,
) -> None:
    """Talk with the model, in this process or on a server.

    With `--url` it is any server of the OpenAI API. The conversation so far is sent with every turn, without its oldest turns
    when the context is full. Also reads turns from a pipe: `echo Hi | orcinus chat`
    """
    console = Console(highlight=False)
    with _partner(url, api_key, config, params) as partner:
        conversation = Conversation(partner, console, system)
        console.print(partner.name, markup=False, soft_wrap=True)
        console.print(HELP)
        while (line := _ask(console)) is not None:
            conversation.turn(line)
    if conversation.failed and not console.is_terminal:
        raise RequestFailed(f"{conversation.failed} of the turns failed")


@contextmanager
def _partner(url: str | None, key: str | None, config: EngineConfig, params: SamplingParams) -> Iterator[ChatBackend]:
    """The chat backend, for the block."""
    if url is None:
        with engine(config) as llm:
            yield InProcess(llm, params, str(config.model or "the bundled model"))
        return
    if idle := engine_options_beside_model(config):
        raise ConfigError(f"{', '.join(idle)} would have no effect on the server at {url}: leave it out")
    server = Server(url, key, None if config.model is None else str(config.model), params)
    interrupt.raise_exception()
    try:
        yield server
    finally:
        interrupt.leave_at_once()
        server.close()


def _ask(console: Console) -> str | None:
    """The next line, or None at the end of the input."""
    try:
        line = console.input("[bold cyan]you>[/] " if console.is_terminal else "").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    return None if line in ("/exit", "/quit") else line


class Conversation:
    """The messages so far, and how a line changes them."""

    def __init__(self, partner: ChatBackend, console: Console, system: str | None) -> None:
        self.partner, self.console = partner, console
        self.messages: list[dict[str, str]] = []
        self.failed = 0
        self.reset(system)

    def reset(self, system: str | None) -> None:
        """Forget everything but the system message."""
        self.system = system
        self.messages = [{"role": "system", "content": system}] if system else []

    def turn(self, line: str) -> None:
        """Process a line: a command, or a message to answer."""
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
            self.note(f"unknown command {command}")
            self.console.print(HELP)
        else:
            self.say(line)

    def note(self, text: str) -> None:
        """Print a note, set apart from the model's text."""
        self.console.print(Text(text, "dim"))

    def say(self, text: str) -> None:
        """Send a message and print the answer; a failed turn is undone."""
        self.messages.append({"role": "user", "content": text})
        answer, tokens, start = "", 0, time.perf_counter()
        wrapped = WordWrap(self.console)
        try:
            for text_of_piece, count in self.partner.answer(self.messages, self.note):
                tokens += count
                answer += text_of_piece
                wrapped.write(text_of_piece)
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
