"""Chat templates in their own process: the same text as transformers, and no way past its limits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM
from orcinus.errors import RequestError
from orcinus.text.chat_template import TemplateRenderer
from orcinus.text.template_process import MOST_CHARACTERS
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.product import part

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Wie ist's? <b>", "parameters": {"properties": {"city": {}}}},
    }
]
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Is it raining in Zürich, 東京 or <here>?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "days": [1, 2.5]}}}
        ],
    },
    {"role": "tool", "name": "weather", "content": '{"rain": true}'},
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes. "},
    {"role": "user", "content": " And tomorrow?\n"},
]
# Written for these tests with the constructs of the templates of the models named.
LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") if strftime_now is defined else "?" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("One call at a time!") }}{%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}{{- tool_call.arguments | tojson }}{{- "}<|eot_id|>" }}
    {%- else %}
        {{- message.content | tojson if message.content is mapping else message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
QWEN_3 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not message.content[:2] == '<x' %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- macro shown(text) %}{{ text.strip('\\n') }}{% endmacro %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- if loop.index0 > ns.last_query_index %}{{- '<think>\\n' + shown(reasoning) + '\\n</think>' }}{%- endif %}
    {%- endif %}
    {%- if message.reasoning_content %}{{- '[' + message.reasoning_content + ']' }}{%- endif %}
    {%- generation %}{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{%- endgeneration %}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>\\n' ~ (call.function | tojson) ~ '\\n</tool_call>' }}
        {%- for name, value in call.function.arguments|items %}{{- name ~ '=' ~ value ~ ';' }}{%- endfor %}
    {%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""
MISTRAL = """{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else false %}
{%- set loop_messages = messages[1:] if system else messages %}
{% for message in loop_messages | rejectattr('role', 'equalto', 'tool') | list %}
    {% if message.role == 'user' %}
        {{ '[INST] ' + (system + '\\n\\n' if system and loop.first else '') + message['content'] + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}
{{ ' ' + message.content + eos_token }}
    {% endif %}
{% endfor %}
{{ dict(a=1) | tojson }}{{ '%s' | format(loop_messages | map(attribute='role') | join(',')) }}
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = load_tokenizer(MODEL_DIR)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def theirs() -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(MODEL_DIR)


RENDERER = TemplateRenderer(limit_s=5)  # its process is started once for all tests that leave it alive


def text_of(template: str, messages: Any = ({"role": "user", "content": "Hi"},), **variables: Any) -> str:
    return RENDERER.render(template, messages, **variables)


@pytest.mark.parametrize("template", [LLAMA_3, QWEN_3, MISTRAL], ids=["llama-3", "qwen-3", "mistral"])
@pytest.mark.parametrize("options", [{}, {"tools": TOOLS}, {"enable_thinking": False, "add_generation_prompt": False}])
@pytest.mark.parametrize("messages", [CHAT, CHAT[1:2], [CHAT[1] | {"reasoning": "hm", "name": None}]])
def test_texts_are_those_of_transformers(theirs: Any, template: str, options: dict[str, Any], messages: Any) -> None:
    options = {"add_generation_prompt": True, **options}
    expected = theirs.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    assert text_of(template, messages, **{**theirs.special_tokens_map, **options}) == expected
    assert len(expected) > 30


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%Y') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ dict.__subclasses__() }}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ messages.append(1) }}",
        "{{ range(10**6) }}",
        "{{ undefined.field }}",
        "{{ x",
        "{{ 1 / 0 }}",
        "{{ [].pop() }}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ [messages[0].content, nothing] | join('-') }}",
        "{{ {'a': 1}.items() | list }}",
    ],
)
def test_what_the_sandbox_lets_pass_and_what_not_is_the_same(theirs: Any, template: str) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    try:
        expected = theirs.apply_chat_template(messages, chat_template=template, tokenize=False)
    except Exception:
        with pytest.raises(RequestError, match="the model's chat template (refuses|cannot take) this conversation"):
            text_of(template)
    else:
        assert text_of(template) == expected


def test_a_refusal_is_one_line_of_bounded_length() -> None:
    with pytest.raises(RequestError) as caught:
        text_of("{{ raise_exception('no,\n\n' ~ 'never ' * 10000) }}")
    assert str(caught.value).startswith("the model's chat template refuses this conversation: no, never never")
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


HUGE = [  # each needs more memory than there is, or makes more text than is taken
    "{{ 'a' * 20000000000 }}",
    "{{ (n | string) * 20000000000 }}",
    "{{ [1] * 10 ** 10 }}",
    "{{ 'a'.center(20000000000) }}",
    "{{ 'a' | center(20000000000) }}",
    "{{ 'a'.zfill(20000000000) }}",
    "{{ ('a' * 99999).replace('a', 'b' * 999999) }}",
    "{{ ('a' * 99999) | replace('a', 'b' * 999999) }}",
    "{{ '%20000000000d' % 3 }}",
    "{{ '%020000000000d' | format(3) }}",
    "{{ '{:20000000000d}'.format(3) }}",
    "{{ ('x' * 99999).join(['y'] * 99999) }}",
    "{{ (['y'] * 99999) | join('x' * 99999) }}",
    "{{ ('a\n' * 99999) | indent(99999) }}",
    "{{ 'a\tb'.expandtabs(20000000000) }}",
    "{{ [1] | batch(10 ** 10, 0) | list }}",
    "{{ (2 ** 9999999999) | string }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
    "{% set ns = namespace(x=[]) %}{% for i in range(2000) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
    "{% for i in range(99999) %}{{ 'a' * 9999999 }}{% endfor %}",
    f"{{{{ 'a' * {MOST_CHARACTERS + 1} }}}}",
]
ENDLESS = [
    "{{ (n + 8) ** ((n + 8) ** (n + 8)) }}",
    "{{ (7 ** 9999999) % 1000 ** 999999 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% if ('b' ~ a) * 99999 in 'a' * (a + 9999999) %}{% endif %}{% endfor %}",
    "{{ lipsum(10 ** 9) }}",
    "{% macro f(n) %}{% for i in range(9) %}{{ f(n - 1) if n }}{% endfor %}{% endmacro %}{{ f(99) }}",
    "{% set c = cycler('a') %}{% for a in range(9999) %}{% for b in range(9999) %}{{ c.next() }}{% endfor %}{% endfor %}",
    "{{ (range(99999) | list * 999) | sort | unique | list }}{% for a in range(9999) %}{{ range(99999) | sum }}{% endfor %}",
]
LIMITS = (
    "the model's chat template (takes longer than 0.5 s for|needs more than 512 MiB for|makes more than 33554432|cannot take)"
)


TRIED = [HUGE[0], *HUGE[17:19], HUGE[21], ENDLESS[0], ENDLESS[5]]  # memory at once, text and lists that grow, an answer that
# is too long, one operation without end, and calls without end


@pytest.mark.parametrize("template", part(*TRIED, full=[one for one in (*HUGE, *ENDLESS) if one not in TRIED]))
def test_no_template_passes_the_limits(template: str) -> None:
    renderer = TemplateRenderer(limit_s=0.5)
    with pytest.raises(RequestError, match=LIMITS):
        print(len(renderer.render(template, [], n=1)))
    assert renderer.render("{{ n }}", [], n=1) == "1", "and the next conversation is rendered"


@pytest.mark.parametrize(
    "template",
    [
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "[" * 300 + "1" + "]" * 300 + " | string }}",
        "{% if 1 %}" * 300 + "{% endif %}" * 300,
    ],
    ids=["macro", "brackets", "lists", "blocks"],
)
def test_recursion_ends_in_one_line(template: str) -> None:
    with pytest.raises(RequestError, match=r"\Athe model's chat template [^\n]*\Z"):
        text_of(template)


def test_what_is_not_json_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    for content in (object(), {1, 2}, {(1, 2): 3}, nested):
        with pytest.raises(RequestError, match="messages must be made of text, numbers, lists and dictionaries"):
            text_of("{{ 1 }}", [{"role": "user", "content": content}])


def pids(renderer: TemplateRenderer) -> list[int]:
    return [process.popen.pid for process in renderer.processes.idle]


def test_one_process_is_kept_and_a_dead_one_is_replaced() -> None:
    renderer = TemplateRenderer()
    assert pids(renderer) == [], "nothing starts before it is needed"
    renderer.render("{{ 1 }}", [])
    (first,) = pids(renderer)
    renderer.render("{{ 2 }}", [])
    assert pids(renderer) == [first]
    os.kill(first, signal.SIGKILL)
    while renderer.processes.idle[0].popen.poll() is None:
        time.sleep(0.01)
    assert renderer.render("{{ 3 }}", []) == "3"
    assert pids(renderer) != [first]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_process_killed_in_the_middle_costs_one_conversation(sent: signal.Signals) -> None:
    renderer = TemplateRenderer(limit_s=1)
    renderer.render("{{ 1 }}", [])
    (pid,) = pids(renderer)
    timer = threading.Timer(0.3, os.kill, (pid, sent))
    timer.start()
    with pytest.raises(RequestError, match="ended|takes longer than"):
        renderer.render(ENDLESS[2], [])
    timer.join()
    assert renderer.render("{{ 4 }}", []) == "4"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_signals_to_a_whole_group_do_not_end_a_rendering() -> None:
    renderer = TemplateRenderer()
    renderer.render("{{ 1 }}", [])
    (pid,) = pids(renderer)
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, sent)
    assert renderer.render("{{ 2 }}", []) == "2"
    assert pids(renderer) == [pid]
    assert os.getpgid(pid) != os.getpgid(0)


def test_conversations_are_rendered_side_by_side() -> None:
    renderer, found = TemplateRenderer(limit_s=20), dict[int, str]()
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        ready.wait()
        for turn in range(20):
            found[100 * number + turn] = renderer.render("{{ n }}" * 50, [], n=100 * number + turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {key: str(key) * 50 for key in [100 * number + turn for number in range(8) for turn in range(20)]}
    assert 1 <= len(pids(renderer)) <= 4


def test_long_conversations_pass_whole() -> None:
    content = "Zürich 東京 🐋 " * 300_000
    assert text_of("{{ messages[0].content }}", [{"content": content}]) == content


FORKS = """
import os
from orcinus.text.chat_template import TemplateRenderer
renderer = TemplateRenderer()
print(renderer.render("{{ 'before' }}", []), flush=True)
child = os.fork()
print(renderer.render("{{ 'after' }}", []), flush=True)
if child:
    os.waitpid(child, 0)
    print(renderer.render("{{ 'end' }}", []), flush=True)
"""


def test_after_a_fork_both_processes_have_their_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert sorted(done.stdout.split()) == ["after", "after", "before", "end"]
    assert (done.returncode, done.stderr) == (0, "")


ORPHANS = """
import os, signal, sys, threading, time
from orcinus.text.chat_template import TemplateRenderer
renderer = TemplateRenderer(limit_s=2)
renderer.render("{{ 1 }}", [])
print(renderer.processes.idle[0].popen.pid, flush=True)
if sys.argv[1] == "busy":
    threading.Thread(target=renderer.render, args=("{{ 8 ** (8 ** 8 ** 8) }}", []), daemon=True).start()
    time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_it_ends_with_its_parent_however_that_ends(state: str) -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS, state], capture_output=True, text=True, timeout=60)
    pid, until = int(done.stdout), time.monotonic() + 20
    while time.monotonic() < until and Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        time.sleep(0.05)
    assert not (Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/cmdline").read_bytes())


SECRETS = """
import os
os.environ["ORCINUS_API_KEY"] = "secret"
from orcinus.text.chat_template import TemplateRenderer
renderer = TemplateRenderer()
renderer.render("", [])
print(open(f"/proc/{renderer.processes.idle[0].popen.pid}/environ").read())
"""


def test_it_inherits_no_secrets() -> None:
    done = subprocess.run([sys.executable, "-c", SECRETS], capture_output=True, text=True, timeout=60)
    assert "PYTHONPATH" in done.stdout
    assert "secret" not in done.stdout


def test_it_works_as_a_user_without_a_home() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = "from orcinus.text.chat_template import TemplateRenderer; print(TemplateRenderer().render('{{ 1 }}', []))"
    command, nobody, home = [sys.executable, "-B", "-c", code], 65534, {"HOME": "/"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, cwd="/", env=home, user=nobody, group=nobody, extra_groups=[]
        )
    except PermissionError:
        pytest.skip("this interpreter lies where other users cannot read it")
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_an_evil_template_costs_one_chat_of_an_engine_in_this_process(tmp_path: Path) -> None:
    with LLM(str(hostile_model(tmp_path)), dtype="float32") as llm:
        with pytest.raises(RequestError, match="needs more than 512 MiB"):
            llm.chat([{"role": "user", "content": "huge"}])
        (output,) = llm.chat([{"role": "user", "content": "Hello"}])
        assert output.token_ids


def hostile_model(tmp_path: Path) -> Path:
    """The bundled model, with a template that does evil when it is asked to."""
    folder = tmp_path / "model"
    shutil.copytree(MODEL_DIR, folder)
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].content == 'huge' %}{{ 'a' * 20000000000 }}"
        "{% elif messages[0].content == 'spin' %}{% set n = messages | length %}{{ (n + 8) ** ((n + 8) ** (n + 8)) }}"
        "{% endif %}{{ messages[0].content }}"
    )
    return folder
