"""Any chat template renders, or is refused in one line, within its limits; the next conversation is rendered all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from orcinus.errors import RequestError
from orcinus.text.chat_template import TemplateRenderer
from orcinus.text.template_process import MOST_CHARACTERS
from orcinus.tiny import MODEL_DIR
from tests.examples import examples
from tests.fuzz.mutations import check_line, mutated, words

ATOMS = words(
    "messages messages[0].content messages[-1] tools bos_token n none true 'a' \"\" 0 1 -1 2.5 99999999999 [] {} [1,'b'] "
    "range(9) dict(a=1) namespace(x=1) cycler('a') joiner() lipsum(1) raise_exception('no') strftime_now('%Y') loop self "
    "caller varargs kwargs super undefined ''.__class__ dict.__init__ (n).real messages.append messages[0].items()"
)
AFTER = words(
    "|tojson |length |upper |join(',') |list |first |sort |map('upper')|list |string |int |safe |escape |format(1) |sum "
    "|attr('__class__') |groupby(0) |batch(3)|list |indent(999) |center(9999) |replace('a','aa') |pprint |xmlattr |urlize "
    "|wordwrap(1) |items|list .__class__ .__globals__ ['__init__'] [::-1] [0] .x .format('{0.__class__}') .mro() .split() "
    ".strip() .keys() () (1)"
)
BETWEEN = " + | - | * | ** | ~ | // | % | in | and | == | if n else | is mapping and | > ".split("|")  # noqa: SIM905


@st.composite
def expressions(draw: st.DrawFn) -> str:
    made = draw(st.sampled_from(ATOMS)) + "".join(draw(st.lists(st.sampled_from(AFTER), max_size=2)))
    for _ in range(draw(st.integers(0, 2))):
        made = f"({made}){draw(st.sampled_from(BETWEEN))}({draw(st.sampled_from(ATOMS))})"
    return made


BODY = st.deferred(lambda: st.lists(STATEMENTS, max_size=3).map("".join))
STATEMENTS: st.SearchStrategy[str] = st.one_of(
    expressions().map("{{{{ {} }}}}".format),
    st.sampled_from(
        ["text", "\n", "{# c #}", "{% break %}", "{%- continue -%}", "{% raw %}{{{% endraw %}", "{{ super() }}", "{%"]
    ),
    st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, expressions(), BODY, BODY),
    st.builds("{{% for x in {} recursive %}}{}{{{{ loop(x) }}}}{{% endfor %}}".format, expressions(), BODY),
    st.builds("{{% for x in {} %}}{}{{{{ x }}}}{{% endfor %}}".format, expressions(), BODY),
    st.builds("{{% set n = {} %}}".format, expressions()),
    st.builds("{{% set ns = namespace(x={0}) %}}{{% set ns.x = {1} %}}{{{{ ns.x }}}}".format, expressions(), expressions()),
    st.builds("{{% macro f(x={}) %}}{}{{{{ f(x) }}}}{{% endmacro %}}{{{{ f() }}}}".format, expressions(), BODY),
    st.builds("{{% {} '/etc/passwd' %}}{}".format, st.sampled_from(["include", "extends", "import"]), BODY),
    st.builds("{{% block b %}}{}{{{{ self.b() }}}}{{% endblock %}}".format, BODY),
    st.builds("{{% filter upper %}}{}{{% endfilter %}}{{% generation %}}{}{{% endgeneration %}}".format, BODY, BODY),
)
TEMPLATES = BODY | mutated([(MODEL_DIR / "chat_template.jinja").read_bytes()]).map(lambda raw: raw.decode(errors="replace"))


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer(limit_s=0.5)
    yield made
    assert made.render("{{ n + 1 }}", [], n=1) == "2"


@examples(100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(TEMPLATES)
@example("{{ ''.__class__.__mro__[1].__subclasses__() }}")
@example("{% set n = 9 ** 9 ** 9 %}")
def test_any_template_is_rendered_or_refused(renderer: TemplateRenderer, template: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": []}]
    try:
        text = renderer.render(template, messages, n=3, tools=[{"name": "look"}], bos_token="<s>", add_generation_prompt=True)
    except RequestError as error:
        check_line(error, "the model's chat template ")
    else:
        assert len(text) <= MOST_CHARACTERS
        assert "root:" not in text
