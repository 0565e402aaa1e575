// The page: its views, its theme, and the key that the server may ask for.

import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { setKey, whenKeyIsAsked } from "orcinus/api.js";
import { Chat } from "orcinus/chat.js";
import { Compare } from "orcinus/compare.js";
import { html, useTicks } from "orcinus/dom.js";
import { Live } from "orcinus/live.js";
import { Replay, readFiles } from "orcinus/replay.js";
import { SchedulerView } from "orcinus/scheduler.js";

const VIEWS = { scheduler: "Scheduler", chat: "Chat", compare: "Compare", replay: "Replay" };
const STATES = { connecting: "connecting …", live: "live", lost: "connection lost, trying again", refused: "this key may not watch" };

function Page({ records }) {
  const alone = records !== null; // a file without a server
  const live = useMemo(() => (alone ? null : new Live().start()), []);
  const [view, setView] = useState(alone ? "replay" : fromHash());
  const [files, setFiles] = useState(records ?? []); // [{ name, text }]
  const [asked, setAsked] = useState(null);
  useTicks(2);
  useEffect(() => {
    whenKeyIsAsked((error) => setAsked(error.message));
    const moved = () => setView(fromHash());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const show = (name) => (alone ? setView(name) : (location.hash = name), setView(name));
  const dropped = async (event) => {
    event.preventDefault();
    const given = await readFiles(event.dataTransfer?.files ?? []);
    if (!given.length) return;
    setFiles(given);
    show("replay");
  };
  return html`<div class="app" onDragOver=${(event) => event.preventDefault()} onDrop=${dropped}>
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <header>
      <h1>Orcinus</h1>
      ${!alone && html`<p class=${`status ${live.status}`} role="status"><b>${live.model?.id ?? ""}</b> <span>${statusOf(live)}</span></p>`}
      ${!alone &&
      html`<nav aria-label="Views">
        ${Object.entries(VIEWS).map(
          ([name, title]) => html`<button key=${name} aria-current=${view === name ? "page" : undefined} onClick=${() => show(name)}>${title}</button>`,
        )}
      </nav>`}
      <${Theme} />
    </header>
    ${live && live.trouble && html`<p class="banner" role="alert">${live.trouble} ${live.status === "refused" && html`<button onClick=${() => setAsked(live.trouble)}>Use another key</button>`}</p>`}
    ${asked && html`<${KeyDialog} message=${asked} onKey=${(key) => (setKey(key), setAsked(null), live.reconnect())} onClose=${() => setAsked(null)} />`}
    <main id="main" tabindex="-1">
      ${live && html`<div hidden=${view !== "scheduler"}><${SchedulerView} live=${live} shown=${view === "scheduler"} /></div>`}
      ${live && html`<div hidden=${view !== "chat"}><${Chat} live=${live} /></div>`}
      ${live && html`<div hidden=${view !== "compare"}><${Compare} live=${live} /></div>`}
      ${view === "replay" && html`<${Replay} files=${files} onFiles=${setFiles} alone=${alone} />`}
    </main>
  </div>`;
}

function statusOf(live) {
  if (live.status === "live" && live.state?.paused) return "paused";
  if (live.status === "live" && live.state?.draining) return "draining";
  return STATES[live.status];
}

function fromHash() {
  const name = location.hash.slice(1);
  return name in VIEWS ? name : "scheduler";
}

function skip(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

function Theme() {
  const [theme, setTheme] = useState("");
  useEffect(() => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }, [theme]);
  const next = { "": "dark", dark: "light", light: "" }[theme];
  const names = { "": "system", dark: "dark", light: "light" };
  return html`<button class="theme" onClick=${() => setTheme(next)} aria-label=${`Colours: ${names[theme]}. Change to ${names[next]}`}>◐</button>`;
}

function KeyDialog({ message, onKey, onClose }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  const submit = (event) => {
    event.preventDefault();
    onKey(new FormData(event.target).get("key").trim());
  };
  return html`<dialog ref=${dialog} aria-labelledby="ask" onClose=${onClose}>
    <form onSubmit=${submit}>
      <h2 id="ask">This server needs a key</h2>
      <p>${message}. To see or steer the scheduler, it must be an admin key. It is kept in this page's memory until you close it.</p>
      <label>API key <input name="key" type="password" autocomplete="off" required /></label>
      <button class="primary">Use this key</button>
    </form>
  </dialog>`;
}

const embedded = document.getElementById("records");
render(html`<${Page} records=${embedded ? JSON.parse(embedded.textContent) : null} />`, document.getElementById("page"));
