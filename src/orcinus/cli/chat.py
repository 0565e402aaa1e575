"""`orcinus chat`: a conversation in the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from orcinus import interrupt
from orcinus.cli.chat_backends import (
    AUTO,
    ChatBackend,
    InProcess,
    Messages,
    Server,
    engine_options_beside_model,
)
from orcinus.cli.chat_tools import ChatTools, load_tools
from orcinus.cli.engine import ADAPTER, adapter_to_use, check_takes_text, engine
from orcinus.cli.errors import print_error
from orcinus.cli.options import takes_engine, takes_sampling
from orcinus.cli.terminal_text import harmless
from orcinus.cli.word_wrap import WordWrap
from orcinus.config import EngineConfig
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError, RequestError, RequestFailed, plural, shown
from orcinus.server_address import KEYS
from orcinus.text.tools.tool_call import ToolCallDelta, ToolChoice
from orcinus.text.tools.tool_chat import ToolInvocation, joined_calls

HELP = "[dim]/reset starts over · /system TEXT sets the system message · /exit or Ctrl-D leaves · Ctrl-C stops an answer[/]"
TOOL_HELP = "[dim]/tools TEXT has the answer call a tool, /tool NAME TEXT this one[/]"
NO_TOOLS = "there are no tools: start with --tools demo, or --tools FILE"
MOST_CALLS = 8  # answers to one message that call tools


@takes_sampling(temperature=0.3)
@takes_engine()
def chat(
    system: Annotated[str | None, typer.Option("--system", help="System message.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Talk to this server instead: http://127.0.0.1:8000")] = None,
    api_key: Annotated[str | None, typer.Option("--api-key", help="Its API key.", envvar=KEYS)] = None,
    tools: Annotated[
        list[str] | None,
        typer.Option(
            "--tools",
            metavar="FILE",
            help="Tools that the model may call, as JSON in OpenAI's form; demo = a clock and a calculator. May be repeated.",
        ),
    ] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", metavar="NAME", help=ADAPTER)] = None,
    *,
    config: EngineConfig,
    params: SamplingParams,
) -> None:
    """Talk with the model, in this process or on a server.

    With `--url` it is any server of the OpenAI API. The conversation so far is sent with every turn, without its oldest turns
    when the context is full. Also reads turns from a pipe: `echo Hi | orcinus chat`

    With `--tools` the model may call tools. A call is shown; the tools of `--tools demo` then run by themselves, and you are
    asked what the others say.
    """
    console = Console(highlight=False)
    known = load_tools(tools or [])
    with _partner(url, api_key, config, adapter, params, known) as partner:
        conversation = Conversation(partner, console, system, known)
        console.print(partner.name, markup=False, soft_wrap=True)
        console.print(HELP)
        if known.names:
            console.print(TOOL_HELP, markup=True, soft_wrap=True)
        while (line := _ask(console)) is not None:
            conversation.turn(line)
    if conversation.failed and not console.is_terminal:
        raise RequestFailed(f"{conversation.failed} of the turns failed")


@contextmanager
def _partner(
    url: str | None, key: str | None, config: EngineConfig, adapter: str | None, params: SamplingParams, tools: ChatTools
) -> Iterator[ChatBackend]:
    """The chat backend, for the block."""
    if url is None:
        lora = adapter_to_use(config, adapter)
        check_takes_text(config)
        with engine(config) as llm:
            name = str(config.model or "the bundled model")
            yield InProcess(llm, params, f"{name} with {lora}" if lora else name, tools.definitions, lora)
        return
    if idle := engine_options_beside_model(config) + ["--adapter"] * (adapter is not None):
        raise ConfigError(f"{', '.join(idle)} would have no effect on the server at {url}: leave it out")
    server = Server(url, key, None if config.model is None else str(config.model), params, tools.definitions)
    interrupt.raise_exception()
    try:
        yield server
    finally:
        interrupt.leave_at_once()
        server.close()


def _ask(console: Console, who: str = "you") -> str | None:
    """The next line, or None at the end of the input."""
    try:
        line = console.input(Text(f"{who}> ", "bold cyan") if console.is_terminal else "").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    return None if line in ("/exit", "/quit") else line


class Conversation:
    """The messages so far, and how a line changes them."""

    def __init__(self, partner: ChatBackend, console: Console, system: str | None, tools: ChatTools) -> None:
        self.partner, self.console, self.tools = partner, console, tools
        self.messages: Messages = []
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
        elif command == "/tool":
            self.say_with_tool(rest.strip())
        elif command == "/tools":
            self.say_with_any_tool(rest.strip())
        elif line.startswith("/"):
            self.note(f"unknown command {command}")
            self.console.print(HELP)
        else:
            self.say(line)

    def note(self, text: str) -> None:
        """Print a note, set apart from the model's text."""
        self.console.print(Text(text, "dim"))

    def say_with_tool(self, text: str) -> None:
        """Send a message whose answer must call the tool that it begins with."""
        name, _, rest = text.partition(" ")
        names = " or ".join(self.tools.names)
        if not names:
            self.note(NO_TOOLS)
        elif name and name not in self.tools.names:
            self.failed += 1
            print_error(f"there is no tool {shown(name)}: name one of {', '.join(self.tools.names)}, or let /tools TEXT choose")
        elif rest.strip():
            self.say(rest.strip(), ToolChoice("required", name))
        else:
            self.note(f"/tool NAME TEXT asks for a call of {names}, /tools TEXT of any of them")

    def say_with_any_tool(self, text: str) -> None:
        """Send a message whose answer must call a tool."""
        if not self.tools.names:
            self.note(NO_TOOLS)
        elif text:
            self.say(text, ToolChoice("required"))
        else:
            self.note(f"/tools TEXT asks for a call of {' or '.join(self.tools.names)}")

    def say(self, text: str, choice: ToolChoice = AUTO) -> None:
        """Send a message and print the answers, with tools run between them; a failed turn is undone."""
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        try:
            for _ in range(MOST_CALLS):
                calls = self._answer(choice)
                if not calls:
                    return
                for call in calls:
                    if (result := self._result(call)) is None:
                        self.messages[:] = before
                        self.note("(no result: the turn is undone)")
                        return
                    self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
                choice = AUTO
            self.note(f"(stopped after {MOST_CALLS} answers that call tools)")
        except RequestError as error:
            self.messages[:] = before
            self.failed += 1
            print_error(str(error))

    def _answer(self, choice: ToolChoice) -> list[ToolInvocation]:
        """Print an answer and add it to the messages; returns its calls. Raises `RequestError`."""
        answer, tokens, start = "", 0, time.perf_counter()
        deltas: list[ToolCallDelta] = []
        wrapped = WordWrap(self.console)
        try:
            for piece in self.partner.answer(self.messages, self.note, choice):
                tokens += piece.tokens
                answer += piece.text
                deltas += piece.calls
                wrapped.write(piece.text)
            wrapped.end()
        except KeyboardInterrupt:
            wrapped.end()
            deltas = []  # the last one may be cut
            self.console.print(" [dim](stopped)[/]", end="")
        calls = joined_calls(deltas)
        for call in calls:
            text = harmless(f"{call.name}({call.arguments})", self.console)
            self.console.print(Text.assemble(("call ", "dim"), (text, "yellow")), soft_wrap=True)
        rate = tokens / max(time.perf_counter() - start, 1e-9)
        self.console.print(f"{'' if calls else chr(10)}[dim]{plural(tokens, 'token')}, {rate:.0f} tokens/s[/]")
        message: dict[str, Any] = {"role": "assistant", "content": answer}
        self.messages.append(message | ({"tool_calls": [call.message for call in calls]} if calls else {}))
        return calls

    def _result(self, call: ToolInvocation) -> str | None:
        """What a tool says: a built-in one itself, another through the user; None if the user leaves."""
        found = self.tools.run(call)
        if found is None:
            return _ask(self.console, f"result of {call.name}")
        self.note(f"{call.name} says: {found}")
        return found
