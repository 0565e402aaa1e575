"""The page in a real browser: the system's Chromium, driven by Playwright. CHROMIUM names it if it is not on the path."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Route, sync_playwright
from report import KEYED_URL, URL, check, leave

PROBES = Path(__file__).with_name("browser_probes.js")
SCREENSHOTS = Path(__file__).with_name("browser_screenshots.json")
PROBED = "willReadFrequently"  # the browser says so of canvases that these checks read
MOST_DIFFERENT = 10  # mean difference of brightness, of 255
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FORBIDDEN = re.compile(r"^(SCRIPT|IMG|IFRAME|SVG|STYLE|FORM|INPUT|BUTTON|OBJECT|LINK)|\bon\w+=|style=|javascript:|=data:")
WIDTHS = ((360, 740), (768, 1024), (1440, 900), (3840, 2160))
VIEWS = ("scheduler", "chat", "compare", "replay")
HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    '<a href="javascript:alert(1)">x</a> [x](javascript:alert(1)) [y](data:text/html,<script>alert(1)</script>)',
    '<svg><animate onbegin=alert(1)></svg><iframe src="//example.org"></iframe><style>*{display:none}</style>',
    '<form action="/pause" method="post"><button>ok</button></form><input autofocus onfocus=alert(1)>',
    "![x](https://example.org/pixel.png)",
    "\u202egnp.exe \u2066 \x1b[31mred\x1b[0m \x00",
    "[" * 20000,
    "`" * 5000 + "*" * 5000,
    "x" * 1_000_000,
]


def api(path: str, body: Any = None, method: str | None = None) -> Any:
    """What the server itself says."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def wait(true: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true answer. Raises `AssertionError` after some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def drawn(page: Page, which: str = "canvas") -> int:
    """Colours in a canvas."""
    return int(page.locator(f"{which} >> visible=true").first.evaluate("(canvas) => probes.colours(canvas)"))


if CHROMIUM is None:
    raise SystemExit("FAIL  there is no Chromium: install it, or name it by CHROMIUM")
playwright = sync_playwright().start()
browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
context.set_default_timeout(60000)  # a busy machine
context.add_init_script(path=PROBES)
page = context.new_page()
troubles: list[str] = []


def listen(one: Page) -> None:
    """Note what the browser complains about."""
    one.on(
        "console",
        lambda message: message.type in ("error", "warning") and PROBED not in message.text and troubles.append(message.text),
    )
    one.on("pageerror", lambda error: troubles.append(str(error)))


listen(page)


def forgive(what: str) -> None:
    """Forget what a check provoked."""
    troubles[:] = [one for one in troubles if what not in one]


def show(view: str) -> None:
    """Change to a view."""
    page.goto(f"{URL}/#{view}")
    page.get_by_role("button", name=view.title(), exact=True).click()


@check("the page opens, and shows a load at work")
def opens() -> None:
    page.goto(URL)
    page.get_by_text("live", exact=True).wait_for()
    page.get_by_role("button", name="Send requests").click()
    wait(lambda: drawn(page) > 8)
    page.get_by_role("button", name="Send requests").wait_for()
    assert "p99" in page.locator(".figures").inner_text()


@check("pause, steps, slow motion and resume")
def pace() -> None:
    show("scheduler")
    page.get_by_role("button", name="Pause").click()
    wait(lambda: api("/v1/scheduler")["paused"])
    page.get_by_role("button", name="Send requests").click()
    wait(lambda: len(api("/v1/scheduler/requests")["requests"]) == 24)
    page.get_by_role("table").get_by_text("paused").first.wait_for()
    page.get_by_role("button", name="Step").click()
    wait(lambda: api("/v1/scheduler")["running"] > 0)
    page.get_by_label("Speed").select_option("0.05")
    wait(lambda: api("/v1/scheduler")["min_iteration_seconds"] == 0.05)
    page.get_by_role("button", name="Resume").click()
    wait(lambda: not api("/v1/scheduler")["paused"])
    page.get_by_label("Speed").select_option("0")
    wait(lambda: api("/v1/scheduler")["running"] + api("/v1/scheduler")["waiting"] == 0)


@check("a switch of policy, order and limits; a wrong one says why")
def switch() -> None:
    before = api("/v1/scheduler")
    page.get_by_label("Policy").select_option("orca")
    page.get_by_label("Order").select_option("shortest-first")
    page.get_by_label("Batch size").fill("3")
    page.get_by_role("button", name="Apply").click()
    wait(lambda: api("/v1/scheduler")["policy"] == "orca")
    after = api("/v1/scheduler")
    assert (after["order"], after["limits"]["max_batch_size"]) == ("shortest-first", 3)
    page.get_by_label("Batch tokens").fill("99999999999")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("alert").wait_for()
    forgive("status of 400")
    change = {"policy": before["policy"], "order": before["order"], **before["limits"]}
    api("/v1/scheduler", change, "PUT")
    page.reload()


@check("a chat, its ledger, a second conversation, and history after a reload")
def chats() -> None:
    show("chat")
    page.get_by_text("System prompt and sampling").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("System prompt", exact=True).fill("Be brief.")
    box = page.get_by_label("Your message")
    box.fill("What is Orca?")
    box.press("Enter")
    summary = page.locator(".ledger summary").first
    summary.wait_for()
    system = {"role": "system", "content": "Be brief."}
    answer = {"messages": [system, {"role": "user", "content": "What is Orca?"}], "temperature": 0}
    told = api("/v1/chat/completions", answer)["choices"][0]["message"]["content"]
    seen = " ".join(page.locator(".message.assistant").first.inner_text().split())
    assert " ".join(told.split()) in seen, f"{told} is not in {seen}"
    summary.click()
    page.get_by_text("prompt tokens").first.wait_for()
    page.get_by_role("button", name="New conversation").click()
    page.get_by_label("Send to all").fill("Hi")
    page.get_by_role("button", name="Send to 2").click()
    wait(lambda: page.locator(".ledger").count() == 3)
    page.reload()
    assert wait(lambda: page.locator(".message").count()) == 6
    page.get_by_role("button", name="Regenerate").first.click()
    wait(lambda: page.locator(".ledger").count() == 3)


@check("an answer is stopped, and its request ends in the engine")
def stops() -> None:
    show("chat")
    api("/v1/scheduler", {"min_iteration_seconds": 0.1}, "PUT")
    try:
        page.get_by_label("Your message").first.fill("Tell me a story")
        page.get_by_label("Your message").first.press("Enter")
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("stopped", exact=True).wait_for()
        wait(lambda: not api("/v1/scheduler/requests")["requests"])
    finally:
        api("/v1/scheduler", {"min_iteration_seconds": 0}, "PUT")


@check("hostile text of a model stays text")
def hostile() -> None:
    for text in HOSTILE:
        safe = page.evaluate("(text) => probes.elements(text)", text)
        if safe is not None:
            assert not [element for element in safe["elements"] if FORBIDDEN.search(element)], safe
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", safe["text"])
    told = page.evaluate("(text) => probes.elements(text)", "<b onclick=alert(1)>bold</b> H<sub>2</sub>O <script>1</script>")
    assert "&lt;b onclick" in told["text"], told
    assert "<sub>2</sub>" in told["text"], told


@check("the same requests under two policies, side by side")
def compares() -> None:
    show("compare")
    page.get_by_role("button", name="Run both").click()
    page.locator(".verdict").wait_for(timeout=60000)
    assert page.locator(".sides figure.schedule canvas").count() == 2
    stalls = page.locator(".sides canvas.timeline")
    assert max(stalls.nth(at).evaluate("(canvas) => probes.red(canvas)") for at in range(stalls.count())) > 0
    assert "TTFT" in page.locator(".verdict").inner_text()
    policy = api("/v1/scheduler")["policy"]
    assert policy.startswith("stall-free"), policy


RESULT = {
    "version": 2, "kind": "offline", "when": "2026-12-01", "command": ["orcinus", "bench", "offline"], "commit": "abcdef",
    "machine": {"cores": 2}, "sides": [{"name": "orca", "settings": {}, "repeats": [{"round": 0, "seconds": 2.0, "load": 9.0,
    "requests": [{"number": 0, "prompt_tokens": 3, "output_tokens": 3, "due": 0.0, "sent": 0.0, "ended": 1.5,
                  "times": [0.5, 0.75, 1.5]}]}]}],
}  # fmt: skip
RECORD = [
    {"kind": "engine", "version": 2, "policy": "orca", "order": "fcfs", "kv": "paged", "num_blocks": 8, "block_size": 16,
     "limits": {"max_batch_size": 2, "max_batch_tokens": 64, "max_model_len": 64, "lookahead": 512}},
    {"kind": "submit", "at": 0.0, "id": "a", "prompt": [1, 2, 3], "params": {}},
    {"kind": "submit", "at": 0.0, "id": "b", "prompt": [1, 2], "params": {}},
    {"kind": "launch", "at": 0.1, "batch": 1, "chunks": [["a", 0, 3, 1], ["b", 0, 2, 1]], "waiting": 0, "running": 2,
     "free_blocks": 6, "why": {}, "others": "not chosen", "blocks": {"a": [1, 2], "b": [2, 3]}},
    {"kind": "return", "at": 0.2, "batch": 1, "tokens": [[5], [6]]},
    {"kind": "launch", "at": 0.2, "batch": 2, "chunks": [["a", 3, 1, 1]], "waiting": 0, "running": 2, "free_blocks": 6,
     "why": {"b": "preempted"}, "others": "not chosen"},
    {"kind": "return", "at": 0.4, "batch": 2, "tokens": [[7]]},
    {"kind": "launch", "at": 0.4, "batch": 3, "chunks": [["a", 4, 1, 1]], "waiting": 1, "running": 1, "free_blocks": 6,
     "why": {}, "others": "no blocks", "removed": ["b"]},
    {"kind": "return", "at": 0.5, "batch": 3, "tokens": [[7]]},
]  # fmt: skip
OLD = [{name: value for name, value in line.items() if name not in ("blocks", "removed")} for line in RECORD]


@check("a recorded run is played, saved as a picture and as a file of its own; cut and foreign files say what they are")
def replays() -> None:
    show("replay")
    text = "\n".join(map(json.dumps, RECORD))
    with tempfile.TemporaryDirectory() as folder:

        def drop(name: str, content: str) -> None:
            (Path(folder) / name).write_text(content, encoding="utf-8")
            page.get_by_label("Recorded run").set_input_files(str(Path(folder) / name))

        drop("run.jsonl", text)
        page.get_by_text("2 requests, 3 iterations").wait_for()
        assert "TTFT 200 ms" in page.locator("main").inner_text()
        assert "TBT 100 ms (p99 200 ms)" in page.locator("main").inner_text()
        page.get_by_text("2 of 8 blocks of 16 tokens held, 1 (50 %) reserved and still empty").wait_for()
        page.get_by_role("button", name="One iteration back").click()
        page.get_by_text("2 of 3").wait_for()
        page.get_by_text("3 of 8 blocks of 16 tokens held, 1 shared, which saves 1").wait_for()
        with page.expect_download() as picture:
            page.get_by_role("button", name="Save picture").click()
        assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as one HTML file").click()
        alone = Path(folder) / "alone.html"
        saved.value.save_as(alone)
        other = context.new_page()
        listen(other)
        other.goto(f"file://{alone}")
        other.get_by_text("2 requests, 3 iterations").wait_for()
        assert wait(lambda: drawn(other) > 2)
        other.close()
        drop("cut.jsonl", text[:-20])
        page.get_by_text("the run was cut off").wait_for()
        drop("old.jsonl", "\n".join(map(json.dumps, OLD)))
        page.get_by_text("does not tell which K/V blocks").wait_for()
        wrong = {
            "foreign.json": '{"a": 1}',
            "no.jsonl": "hello",
            "empty.jsonl": "",
            "old.jsonl": '{"kind":"engine","version":9}',
        }
        wrong |= {"odd.jsonl": text.replace('"tokens"', '"other"'), "short.jsonl": json.dumps(RECORD[0])}
        wrong |= {"list.jsonl": "[1]", "binary.jsonl": "\x00\x01\ufffd", "middle.jsonl": text[:300] + text[320:]}
        for name, content in wrong.items():
            drop(name, content)
            alert = page.get_by_role("alert")
            wait(lambda alert=alert, name=name: alert.count() == 1 and name in alert.inner_text())


@check("two recorded runs play side by side on one scale of time, and are saved as one file")
def side_by_side() -> None:
    show("replay")
    slow = [{**line, **({"at": 3 * line["at"]} if "at" in line else {})} for line in RECORD]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("fast.jsonl", "slow.jsonl")]
        for path, lines in zip(paths, (RECORD, slow), strict=True):
            path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        page.get_by_label("Recorded run").set_input_files(str(paths[0]))
        page.get_by_text("2 requests, 3 iterations").wait_for()
        page.get_by_label("Another beside it").set_input_files(str(paths[1]))
        page.get_by_role("heading", name="slow.jsonl: orca").wait_for()
        page.get_by_text("Longest stall 200 ms").wait_for()
        page.get_by_text("Longest stall 600 ms").wait_for()
        stalls = page.locator("canvas.timeline >> visible=true")
        assert [stalls.nth(at).evaluate("(canvas) => probes.red(canvas)") > 20 for at in range(2)] == [True, True]
        page.get_by_role("slider", name="Time").press("Home")
        page.get_by_text("0.0 ms of 1.50 s").wait_for()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save as one HTML file").click()
        alone = Path(folder) / "both.html"
        saved.value.save_as(alone)
        other = context.new_page()
        listen(other)
        other.goto(f"file://{alone}")
        other.get_by_role("heading", name="slow.jsonl: orca").wait_for()
        assert other.locator("canvas.timeline").count() == 2
        other.close()


@check("the keyboard alone reaches everything; every control and picture has a name")
def keyboard() -> None:
    show("scheduler")
    page.get_by_role("button", name="Send requests").focus()
    page.keyboard.press("Enter")
    wait(lambda: drawn(page) > 8)
    canvas = page.locator("figure.schedule canvas").first
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    told = page.locator("figure.schedule figcaption").first
    assert re.search(r"iteration \d+:", told.inner_text())
    for view in VIEWS:
        show(view)
        unnamed = page.evaluate("probes.unnamed()")
        assert not unnamed, f"{view}: {unnamed}"
    show("scheduler")
    seen = set()
    page.locator("body").press("Tab")
    for _ in range(40):
        seen.add(page.evaluate("probes.focused()"))
        page.keyboard.press("Tab")
    assert len(seen) > 20, "Tab goes through the controls"


@check("contrast of all text is at least 4.5 in both themes")
def contrast() -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for view in VIEWS:
            show(view)
            poor = page.evaluate("probes.contrast()")
            assert not poor, f"{scheme} {view}: {poor[:3]}"
    page.emulate_media(color_scheme="light")


@check("from 360 to 3840 pixels nothing is wider than the screen")
def widths() -> None:
    for width, height in WIDTHS:
        page.set_viewport_size({"width": width, "height": height})
        for view in VIEWS:
            show(view)
            wide = page.evaluate("probes.tooWide()")
            assert wide <= 0, f"{view} at {width}: {wide} pixels too wide"
    page.set_viewport_size({"width": 1440, "height": 900})


@check("30,000 iterations leave memory as it was")
def growth() -> None:
    grow = "() => probes.grow(10000)"
    page.evaluate(grow)
    page.evaluate(grow)
    kept = page.evaluate(grow)
    assert kept["columns"] <= 10_000, "at most twice as many as are kept"
    assert kept["latencies"] <= 4000
    assert (kept["slots"], kept["live"]) == (1, 0)


def told_and_found_again(fail: Callable[[Route], None], told: str, forgiven: str) -> None:
    """Every request fails for a while: the page says so, and goes on after it."""
    show("scheduler")
    page.get_by_text("live", exact=True).wait_for()
    page.route("**/v1/**", fail)
    page.reload()
    page.get_by_role("alert").get_by_text(told).wait_for()
    page.unroute("**/v1/**")
    page.get_by_text("live", exact=True).wait_for()
    forgive(forgiven)


@check("an engine that is gone is told in its own words, and found again")
def dead_engine() -> None:
    gone = {"error": {"message": "the engine died: killed by SIGKILL", "code": "engine_dead"}}
    told_and_found_again(lambda route: route.fulfill(status=503, json=gone), "killed by SIGKILL", "status of 503")


@check("a connection that is lost while requests run: the page goes on, and marks the gap")
def reconnects() -> None:
    show("scheduler")
    page.get_by_text("live", exact=True).wait_for()
    api("/v1/scheduler", {"min_iteration_seconds": 0.4}, "PUT")
    try:
        page.get_by_role("button", name="Send requests").click()
        canvas = "figure.schedule canvas >> visible=true"
        wait(lambda: drawn(page, canvas) > 8)
        assert not page.locator(canvas).first.evaluate("(canvas) => probes.pixels(canvas, 0xd9, 0x77, 0x06)")
        page.route("**/v1/**", lambda route: route.abort())
        page.evaluate("probes.disconnect()")
        page.get_by_role("alert").get_by_text("cannot be reached").wait_for()
        page.unroute("**/v1/**")
        page.get_by_text("live", exact=True).wait_for()
        wait(lambda: page.locator(canvas).first.evaluate("(canvas) => probes.pixels(canvas, 0xd9, 0x77, 0x06)"))
    finally:
        api("/v1/scheduler", {"min_iteration_seconds": 0}, "PUT")
    wait(lambda: not api("/v1/scheduler/requests")["requests"])
    forgive("ERR_FAILED")


@check("screenshots of a recorded run look as they did, loosely")
def screenshots() -> None:
    """Brightness on a coarse grid, because fonts differ; NEW_SCREENSHOTS=1 writes what the grids are compared with."""
    fresh: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "run.jsonl"
        record.write_text("\n".join(map(json.dumps, RECORD)), encoding="utf-8")
        for scheme, width, height in (("light", 1440, 900), ("dark", 1440, 900), ("light", 360, 740), ("dark", 360, 740)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": height})
            show("replay")
            page.get_by_label("Recorded run").set_input_files(str(record))
            page.get_by_text("2 requests, 3 iterations").wait_for()
            page.wait_for_timeout(500)
            picture = base64.b64encode(page.screenshot()).decode()
            fresh[f"{scheme} {width}"] = page.evaluate("(picture) => probes.brightness(picture)", picture)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 900})
    if os.environ.get("NEW_SCREENSHOTS"):
        SCREENSHOTS.write_text(json.dumps(fresh, separators=(",", ":")) + "\n", encoding="utf-8")
    for name, known in json.loads(SCREENSHOTS.read_text(encoding="utf-8")).items():
        differences = [abs(one - other) for one, other in zip(fresh[name], known, strict=True)]
        assert sum(differences) / len(differences) < MOST_DIFFERENT, name


@check("iterations that were not seen are marked, and requests that ended meanwhile leave their slots")
def gaps() -> None:
    assert page.evaluate("probes.gap()") == {"gaps": [False, False, True], "slots": ["c"]}


@check("padding of static batches, and bubbles of pipelines, are counted as the papers do")
def waste() -> None:
    assert page.evaluate("probes.padding()") == [0, 0, 1, 2, 0]
    assert page.evaluate("probes.bubbles()") == [[0.0, 4.0], [5.0, 3.0]], "seconds of bubbles and of work by stage"


@check("a lost connection is told, and found again")
def lost() -> None:
    told_and_found_again(lambda route: route.abort(), "cannot be reached", "ERR_FAILED")


@check("a server with keys: asked for, wrong, and one that may not watch but chat; none is stored")
def keys() -> None:
    if not KEYED_URL:
        raise AssertionError("there is no server with a key")
    apart = browser.new_context()
    apart.add_init_script(path=PROBES)
    other = apart.new_page()
    other.goto(KEYED_URL)
    dialog = other.get_by_role("dialog")
    for key in ("wrong", "secret"):
        dialog.wait_for()
        other.get_by_label("API key").fill(key)
        other.get_by_role("button", name="Use this key").click()
    other.get_by_text("this needs an admin key").wait_for()
    other.get_by_role("button", name="Chat", exact=True).click()
    other.get_by_label("Your message").fill("Hi")
    other.get_by_label("Your message").press("Enter")
    other.locator(".ledger").wait_for()
    local, session, cookie = other.evaluate("probes.stored()")
    assert (list(local), session, cookie) == (["orcinus.conversations"], {}, "")
    assert [set(one) for one in json.loads(local["orcinus.conversations"])] == [{"system", "sampling", "messages"}]
    other.close()


@check("the browser had nothing to complain about")
def quiet() -> None:
    assert not troubles, troubles[:3]


browser.close()
playwright.stop()
leave()
