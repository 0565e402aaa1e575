"""Tools in request bodies, and which of them the model may call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StrictBool, StrictStr, Tag

from orcinus.serve.custom_tools import custom_parameters
from orcinus.serve.field_types import at_most
from orcinus.serve.object_schema import Object, type_of

FUNCTION_NAME = (
    "^[a-zA-Z0-9_.-]{1,128}$"  # OpenAI's, with dots, and as long as Anthropic's: clients join names of servers and tools
)
MOST_TOOLS = 1024


def tool_kind(value: Any) -> str:
    """The tag of a tool, of a call or of a choice."""
    return "a custom" if type_of(value) == "custom" else "a function"


def format_kind(value: Any) -> str:
    """The tag of the format of a custom tool."""
    return "format grammar" if type_of(value) == "grammar" else "format text"


class FunctionObject(Object):
    """A function that the model may call."""

    name: Annotated[StrictStr, Field(pattern=FUNCTION_NAME)]
    description: StrictStr | None = None
    parameters: dict[str, Any] | None = None
    strict: StrictBool | None = None


class ChatTool(Object):
    """A tool, as chat templates show it to the model."""

    type: Literal["function"]
    function: FunctionObject


class PlainFormat(Object):
    """Any text."""

    type: Literal["text"]


class Grammar(Object):
    """A grammar of a custom tool's input."""

    syntax: Literal["lark", "regex"]
    definition: Annotated[StrictStr, Field(min_length=1)]


class CustomGrammar(Object):
    """The input follows a grammar, which the prompt contains; a regex is enforced."""

    type: Literal["grammar"]
    grammar: Grammar


class CustomObject(Object):
    """A tool whose input is one text."""

    name: Annotated[StrictStr, Field(pattern=FUNCTION_NAME)]
    description: StrictStr | None = None
    format: (
        Annotated[
            Annotated[PlainFormat, Tag("format text")] | Annotated[CustomGrammar, Tag("format grammar")],
            Discriminator(format_kind),
        ]
        | None
    ) = None


class CustomTool(Object):
    """A tool whose input is one text; the model knows it as a function."""

    type: Literal["custom"]
    custom: CustomObject

    @property
    def grammar(self) -> Grammar | None:
        """The grammar of its input."""
        return self.custom.format.grammar if isinstance(self.custom.format, CustomGrammar) else None

    @property
    def function(self) -> FunctionObject:
        """The function that stands for the tool; its calls are always bound."""
        texts, regex = [self.custom.description], None
        if (grammar := self.grammar) is not None:
            texts.append(f"The input follows this {grammar.syntax} grammar:\n{grammar.definition}")
            regex = grammar.definition if grammar.syntax == "regex" else None
        description = "\n\n".join(text for text in texts if text) or None
        parameters = custom_parameters(regex)
        return FunctionObject.model_construct(
            name=self.custom.name, description=description, parameters=parameters, strict=True
        )


class NamedFunction(Object):
    """The name of one of the tools."""

    name: StrictStr


class NamedToolChoice(Object):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class NamedCustomChoice(Object):
    """The custom tool that the model must call."""

    type: Literal["custom"]
    custom: NamedFunction


NamedChoice = Annotated[
    Annotated[NamedToolChoice, Tag("a function")] | Annotated[NamedCustomChoice, Tag("a custom")], Discriminator(tool_kind)
]


class AllowedToolsObject(Object):
    """Some of the tools, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedChoice], Field(min_length=1, max_length=MOST_TOOLS), at_most(MOST_TOOLS)]


class AllowedToolsChoice(Object):
    """The tools that the model may call."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolsObject


AnyTool = Annotated[Annotated[ChatTool, Tag("a function")] | Annotated[CustomTool, Tag("a custom")], Discriminator(tool_kind)]
Tools = Annotated[list[AnyTool], Field(max_length=MOST_TOOLS), at_most(MOST_TOOLS)]


def _choice_kind(value: Any) -> str:
    kind = type_of(value)
    if isinstance(value, str) or (kind is None and not isinstance(value, dict)):
        return "a mode"
    return {"allowed_tools": "an allowed", "custom": "a custom"}.get(str(kind), "a function")


ToolChoiceField = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a mode")]
    | Annotated[NamedToolChoice, Tag("a function")]
    | Annotated[NamedCustomChoice, Tag("a custom")]
    | Annotated[AllowedToolsChoice, Tag("an allowed")],
    Discriminator(_choice_kind),
]
