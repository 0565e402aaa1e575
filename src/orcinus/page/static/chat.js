// Conversations side by side under one engine.

import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { call, events } from "orcinus/api.js";
import { html, ms, useTicks } from "orcinus/dom.js";
import { plain, render } from "orcinus/markdown.js";

const STORE = "orcinus.conversations";
const MOST_STORED = 2_000_000; // characters
const FIELDS = {
  temperature: { title: "Temperature", step: 0.1, min: 0, max: 2 },
  top_p: { title: "Top-p", step: 0.05, min: 0.05, max: 1 },
  max_tokens: { title: "Most tokens", step: 1, min: 1 },
  seed: { title: "Seed", step: 1, min: 0 },
};

let numbers = 0;

class Conversation {
  constructor(stored = {}) {
    this.number = ++numbers;
    this.system = stored.system ?? "";
    this.sampling = stored.sampling ?? {};
    this.messages = stored.messages ?? []; // { role, content, reasoning?, tools?, timings?, usage?, error? }
    this.draft = "";
    this.answering = null; // { controller, id, began, first, tokens, prompt: { done, total } }
  }

  get stored() {
    return { system: this.system, sampling: this.sampling, messages: this.messages };
  }

  async send(text) {
    if (this.answering || !text.trim()) return;
    this.messages.push({ role: "user", content: text });
    await this.answer();
  }

  // Ask again for the last answer.
  async regenerate() {
    if (this.answering) return;
    while (this.messages.length && this.messages.at(-1).role !== "user") this.messages.pop();
    if (this.messages.length) await this.answer();
  }

  async answer() {
    const controller = new AbortController();
    const given = this.messages.filter((one) => !one.error && one.content).map(({ role, content }) => ({ role, content }));
    const messages = this.system.trim() ? [{ role: "system", content: this.system }, ...given] : given;
    const reply = { role: "assistant", content: "", reasoning: "", tools: [] };
    this.messages.push(reply);
    const now = (this.answering = { controller, began: performance.now(), tokens: 0 });
    const sampling = Object.fromEntries(Object.entries(this.sampling).filter(([, value]) => value !== "" && value !== undefined));
    const body = { messages, ...sampling, stream: true, stream_options: { include_usage: true }, return_progress: true };
    try {
      for await (const { data } of events("/v1/chat/completions", { method: "POST", body, signal: controller.signal })) {
        this.take(reply, now, data);
      }
    } catch (error) {
      if (controller.signal.aborted) reply.stopped = true;
      else reply.error = error.message || "the connection was lost";
    }
    this.answering = null;
  }

  take(reply, now, data) {
    now.id = data.id ?? now.id;
    if (data.error) throw new Error(data.error.message);
    if (data.prompt_progress) now.prompt = { done: data.prompt_progress.processed, total: data.prompt_progress.total };
    if (data.usage) reply.usage = data.usage;
    if (data.timings) reply.timings = data.timings;
    const choice = data.choices?.[0];
    const delta = choice?.delta;
    if (choice?.finish_reason) reply.finish = choice.finish_reason;
    if (!delta) return;
    if (delta.content || delta.reasoning_content || delta.tool_calls) {
      now.first ??= performance.now();
      now.tokens += 1;
    }
    reply.content += delta.content ?? "";
    reply.reasoning += delta.reasoning_content ?? "";
    for (const part of delta.tool_calls ?? []) {
      const tool = (reply.tools[part.index] ??= { name: "", arguments: "" });
      tool.name += part.function?.name ?? "";
      tool.arguments += part.function?.arguments ?? "";
    }
  }

  stop() {
    const { id, controller } = this.answering ?? {};
    controller?.abort();
    if (id) call(`/v1/requests/${encodeURIComponent(id)}/cancel`, { method: "POST" }).catch(() => {});
  }
}

function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE) ?? "[]");
    if (Array.isArray(stored) && stored.length) return stored.map((one) => new Conversation(one));
  } catch {
    // a store that cannot be read is begun anew
  }
  return [new Conversation()];
}

function save(conversations) {
  try {
    const text = JSON.stringify(conversations.map((one) => one.stored));
    if (text.length < MOST_STORED) localStorage.setItem(STORE, text);
  } catch {
    // private windows may have no store: the conversations last as long as the page
  }
}

export function Chat({ live }) {
  const [open, setOpen] = useState(load);
  const [toAll, setToAll] = useState("");
  const [, again] = useReducer((n) => n + 1, 0);
  const busy = open.some((one) => one.answering);
  useTicks(busy ? 10 : 1);
  useEffect(() => save(open), [open.length, busy]);
  const send = async (which, text) => {
    const done = Promise.all(which.map((one) => one.send(text)));
    again();
    await done;
    again();
  };
  const submit = (event) => {
    event.preventDefault();
    send(open, toAll);
    setToAll("");
  };
  return html`<section aria-label="Chat" class="chat">
    <form class="row" onSubmit=${submit}>
      <button type="button" onClick=${() => setOpen([...open, new Conversation()])}>+ New conversation</button>
      <label class="grow">Send to all <input value=${toAll} onInput=${(e) => setToAll(e.target.value)} placeholder="The same message to every conversation below" /></label>
      <button class="primary" disabled=${!toAll.trim() || busy}>Send to ${open.length}</button>
    </form>
    <div class="conversations">
      ${open.map((one) => html`<${Talk} key=${one.number} talk=${one} model=${live.model?.id} send=${send} again=${again} close=${() => (one.stop(), setOpen(open.length > 1 ? open.filter((o) => o !== one) : [new Conversation()]))} />`)}
    </div>
  </section>`;
}

function Talk({ talk, model, send, again, close }) {
  const box = useRef(null);
  const now = talk.answering;
  useEffect(() => {
    const list = box.current; // follow the answer, unless the reader has scrolled up
    if (list && list.scrollHeight - list.scrollTop - list.clientHeight < 120) list.scrollTop = list.scrollHeight;
  });
  const submit = (event) => {
    event?.preventDefault();
    const text = talk.draft;
    talk.draft = "";
    send([talk], text);
  };
  const key = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const change = (name) => (event) => {
    talk.sampling = { ...talk.sampling, [name]: event.target.value === "" ? undefined : Number(event.target.value) };
    again();
  };
  return html`<article class="talk" aria-label=${`Conversation ${talk.number}`}>
    <header class="row between">
      <b>${model ?? "model"}</b>
      <span class="row">
        <button onClick=${() => talk.regenerate().then(again)} disabled=${now || !talk.messages.length}>Regenerate</button>
        <button onClick=${close} aria-label=${`Close conversation ${talk.number}`}>✕</button>
      </span>
    </header>
    <details>
      <summary>System prompt and sampling</summary>
      <label>System prompt <textarea rows="2" value=${talk.system} onInput=${(e) => ((talk.system = e.target.value), again())}></textarea></label>
      <div class="row">
        ${Object.entries(FIELDS).map(([name, { title, ...limits }]) => html`<label key=${name}>${title} <input type="number" ...${limits} value=${talk.sampling[name] ?? ""} placeholder="default" onChange=${change(name)} /></label>`)}
      </div>
    </details>
    <div class="messages" ref=${box} role="log" aria-label="Messages" tabindex="0">
      ${talk.messages.map((one, at) => html`<${Message} key=${at} one=${one} now=${at === talk.messages.length - 1 ? now : null} />`)}
    </div>
    <form class="row" onSubmit=${submit}>
      <textarea class="grow" rows="2" aria-label="Your message" placeholder="Your message (Enter sends, Shift+Enter begins a line)" value=${talk.draft} onInput=${(e) => ((talk.draft = e.target.value), again())} onKeyDown=${key}></textarea>
      ${now ? html`<button type="button" onClick=${() => talk.stop()}>Stop</button>` : html`<button class="primary" disabled=${!talk.draft.trim()}>Send</button>`}
    </form>
  </article>`;
}

function Message({ one, now }) {
  const waiting = now && !now.first;
  return html`<div class=${`message ${one.role}`}>
    <h3>${one.role === "user" ? "You" : "Model"}</h3>
    ${one.reasoning && html`<details open=${Boolean(now) && !one.content}><summary>Reasoning</summary><p class="plain">${plain(one.reasoning)}</p></details>`}
    ${waiting && html`<p class="note">${progress(now)}</p>`}
    <${Body} text=${one.content} asIs=${one.role === "user"} />
    ${one.tools?.map((tool) => html`<pre class="tool"><b>${plain(tool.name)}</b> ${plain(tool.arguments)}</pre>`)}
    ${one.error && html`<p class="error" role="alert">${one.error}</p>`}
    ${one.stopped && html`<p class="note">stopped</p>`}
    ${now?.first && html`<p class="note">${rate(now)}</p>`}
    ${one.timings && !now && html`<${Ledger} one=${one} />`}
  </div>`;
}

function Body({ text, asIs }) {
  const safe = asIs ? null : render(text);
  if (safe === null) return html`<p class="plain" dir="auto">${plain(text)}</p>`;
  return html`<div class="markdown" dir="auto" dangerouslySetInnerHTML=${{ __html: safe }}></div>`;
}

function progress({ prompt, began }) {
  if (!prompt) return `waiting in the queue for ${ms((performance.now() - began) / 1000)}`;
  return html`reading the prompt <progress max=${prompt.total} value=${prompt.done}></progress> ${prompt.done} of ${prompt.total} tokens`;
}

function rate({ first, tokens }) {
  const seconds = (performance.now() - first) / 1000;
  return `${tokens} pieces, ${seconds > 0.2 ? Math.round(tokens / seconds) : "…"} a second`;
}

const STAGES = [["queue_ms", "queue"], ["prefill_ms", "prompt"], ["decode_ms", "answer"], ["preempted_ms", "preempted"]];

// Where the time of an answer went.
function Ledger({ one }) {
  const { timings, usage } = one;
  const tokens = usage?.completion_tokens ?? 0;
  const speed = timings.decode_ms > 0 && tokens > 1 ? `, ${Math.round((1000 * (tokens - 1)) / timings.decode_ms)} tokens/s` : "";
  return html`<details class="ledger">
    <summary>${tokens} tokens in ${ms(timings.total_ms / 1000)}${speed}${one.finish === "length" ? ", cut at its limit" : ""}</summary>
    <table>
      <tbody>
        ${STAGES.map(([name, title]) => html`<tr><th scope="row">${title}</th><td>${ms(timings[name] / 1000)}</td><td><meter min="0" max=${timings.total_ms || 1} value=${timings[name]} aria-label=${title}></meter></td></tr>`)}
      </tbody>
    </table>
    <p class="note">${usage?.prompt_tokens ?? "?"} prompt tokens, ${timings.cached_tokens} of them from the prefix cache; ${timings.prefill_iterations} + ${timings.decode_iterations} iterations${timings.preemptions ? `, preempted ${timings.preemptions} times` : ""}${timings.draft_tokens ? `, ${timings.accepted_draft_tokens} of ${timings.draft_tokens} drafts accepted` : ""}.</p>
  </details>`;
}
