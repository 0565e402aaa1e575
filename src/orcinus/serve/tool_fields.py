"""Tools of a chat request, and how they bind the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orcinus.errors import RequestError, shown
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.schema import ChatBody
from orcinus.serve.structured_output_fields import WantedForm, refused_form
from orcinus.serve.tool_schema import AllowedToolsChoice, AnyTool, NamedCustomChoice, NamedToolChoice
from orcinus.text.tools.answer_form import answer_form
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice, ToolForm, check_arguments
from orcinus.text.tools.tool_use import ToolUse


def tools_of(tools: Sequence[AnyTool] | None) -> tuple[Tool, ...]:
    """The tools as forms know them."""
    functions = [tool.function for tool in tools or ()]
    return tuple(Tool(one.name, one.description, one.parameters, bool(one.strict)) for one in functions)


def choice_of(body: ChatBody) -> ToolChoice:
    """Whether the answer must call tools.

    Raises `ApiError` 400 for a choice among no tools, an unknown function, equal names and arguments that are no object.
    """
    kinds = dict[str, str]()  # name -> function or custom
    for index, tool in enumerate(body.tools or ()):
        if (name := tool.function.name) in kinds:
            where = f"tools[{index}].{tool.type}.name"
            raise invalid(where, f"{where}: {shown(name)} is the name of an earlier tool, too: give each its own")
        kinds[name] = tool.type
        try:
            check_arguments(tool.function.parameters, f"tools[{index}].function.parameters")
        except RequestError as error:
            raise _refused(error) from None
    choice = body.tool_choice
    if isinstance(choice, NamedToolChoice | NamedCustomChoice):
        return ToolChoice("required", _named(choice, kinds, "tool_choice"))
    if isinstance(choice, AllowedToolsChoice):
        for index, one in enumerate(choice.allowed_tools.tools):
            _named(one, kinds, f"tool_choice.allowed_tools.tools[{index}]")
        return ToolChoice(choice.allowed_tools.mode)
    if choice == "required" and not kinds:
        raise invalid("tool_choice", "tool_choice: there are no tools of which one could be called: give some in tools")
    return ToolChoice(choice or "auto") if kinds else ToolChoice("none")


def _named(choice: NamedToolChoice | NamedCustomChoice, kinds: Mapping[str, str], place: str) -> str:
    """The name of a chosen tool. Raises `ApiError` 400 if there is none of its kind."""
    name = choice.custom.name if isinstance(choice, NamedCustomChoice) else choice.function.name
    if kinds.get(name) != choice.type:
        where = f"{place}.{choice.type}.name"
        raise invalid(where, f"{where}: {shown(name)} is none of the tools{' of this type' if name in kinds else ''}")
    return name


def tool_use(body: ChatBody, form: ToolForm) -> ToolUse | None:
    """The tools that an answer may call, if any. Raises `ApiError`."""
    choice = choice_of(body)
    if choice.mode == "none":
        return None
    return ToolUse(form, tools_of(body.tools), body.parallel_tool_calls is not False, choice.forced)


def bound_form(use: ToolUse, choice: ToolChoice, wanted: WantedForm | None, token_id: TokenId) -> WantedForm | None:
    """The form of an answer that may call tools, under the field that asks for it. Raises `ApiError` 400."""
    try:
        found = answer_form(use, choice, None if wanted is None else wanted.outputs, token_id)
    except RequestError as error:
        if wanted is not None and error.field == wanted.outputs.kind:
            raise refused_form(wanted.field, error) from None
        raise _refused(error) from None
    if found is None:
        return None
    return WantedForm("tools" if wanted is None or choice.forced else wanted.field, found)


def _refused(error: RequestError) -> ApiError:
    where = error.field or "tools"
    return invalid(where, str(error) if error.field else f"tools: {error}")
