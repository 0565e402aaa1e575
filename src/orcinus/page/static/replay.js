// A recorded run, or a result of a benchmark: drop the file here, then play or scrub.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Chart } from "orcinus/charts.js";
import { html, ms, useAction } from "orcinus/dom.js";
import { RecordError, parseRecord } from "orcinus/record.js";
import { parseResult } from "orcinus/result.js";
import { ResultView } from "orcinus/result_view.js";
import { Run, count, longestGap, percentile } from "orcinus/run.js";
import { Legend, Schedule } from "orcinus/schedule.js";

const CHARTED = 400;
const SPEEDS = [1, 4, 16, 64, 256]; // iterations a second

export function Replay({ file, onFile, alone }) {
  const [cell, setCell] = useState(8);
  const [at, setAt] = useState(0);
  const [speed, setSpeed] = useState(16);
  const [playing, setPlaying] = useState(false);
  const canvas = useRef(null);
  const [failure, act] = useAction();
  const found = useMemo(() => (file ? read(file) : null), [file]);
  const lane = found?.lane;
  useEffect(() => setAt(lane ? lane.end : 0), [lane]);
  useEffect(() => {
    if (!playing || !lane) return undefined;
    const every = Math.max(16, 1000 / speed);
    const timer = setInterval(() => setAt((now) => Math.min(lane.end, now + Math.max(1, Math.round((speed * every) / 1000)))), every);
    return () => clearInterval(timer);
  }, [playing, speed, lane]);
  useEffect(() => {
    if (playing && lane && at >= lane.end) setPlaying(false);
  }, [at]);
  const open = async (event) => {
    const [one] = event.target.files;
    if (one) onFile({ name: one.name, text: await one.text() });
  };
  const play = () => {
    if (at >= lane.end) setAt(0);
    setPlaying(!playing);
  };
  return html`<section aria-label="Replay">
    <div class="row">
      <label class="file">Recorded run <input type="file" accept=".jsonl,.json,.ndjson,.txt" onChange=${open} /></label>
      ${found && !found.error && html`<b>${file.name}</b>`}
      ${found && !found.error && html`<button onClick=${() => savePicture(canvas.current, file.name)}>Save picture</button>`}
      ${found && !found.error && !alone && html`<button onClick=${() => act(() => savePage(file))}>Save as one HTML file</button>`}
    </div>
    ${failure && html`<p class="error" role="alert">${failure}</p>`}
    ${found?.error && html`<p class="error" role="alert">${file.name}: ${found.error}</p>`}
    ${!found && html`<p class="empty">Drop a file here that <code>orcinus generate</code>, <code>serve</code>, <code>bench</code> or <code>simulate</code> wrote with <code>--record run.jsonl</code>, or a result of <code>orcinus bench --out result.json</code>.</p>`}
    ${found?.result && html`<${ResultView} key=${file.name} result=${found.result} onCanvas=${(one) => (canvas.current = one)} />`}
    ${lane &&
    html`<div>
      <p class="note">${summary(found)}</p>
      <div class="row" role="group" aria-label="Playback">
        <button class="primary" onClick=${play}>${playing ? "❚❚ Pause" : "▶ Play"}</button>
        <button onClick=${() => setAt(Math.max(1, at - 1))} aria-label="One iteration back">◀</button>
        <button onClick=${() => setAt(Math.min(lane.end, at + 1))} aria-label="One iteration on">▶</button>
        <label class="grow">Iteration <input class="grow" type="range" min="1" max=${lane.end} value=${at} onInput=${(e) => setAt(Number(e.target.value))} /></label>
        <output>${at} of ${lane.end}</output>
        <label>Speed <select value=${speed} onChange=${(e) => setSpeed(Number(e.target.value))}>${SPEEDS.map((one) => html`<option value=${one}>${one} a second</option>`)}</select></label>
        <label>Zoom <input type="range" min="2" max="24" value=${cell} onInput=${(e) => setCell(Number(e.target.value))} /></label>
      </div>
      <${Schedule} lane=${lane} rows=${Math.max(lane.height, 4)} cell=${cell} end=${at} label="Recorded schedule" onCanvas=${(one) => (canvas.current = one)} />
      <${Legend} />
      <${Charts} lane=${lane} at=${at} />
    </div>`}
  </section>`;
}

function Charts({ lane, at }) {
  const columns = lane.columns.slice(Math.max(0, at - CHARTED), at);
  return html`<div class="charts">
    <${Chart} title="Time between tokens" unit="ms, the longest of each iteration" columns=${columns} series=${[{ label: "TBT", colour: "#0284c7", of: longestGap }]} />
    <${Chart} title="Tokens of an iteration" columns=${columns} series=${[{ label: "prompts", colour: "#7c3aed", of: (c) => c.prefill, fill: true }, { label: "decodes", colour: "#059669", of: (c) => c.tokens - c.prefill, fill: true }]} />
    <${Chart} title="Waiting requests" columns=${columns} series=${[{ label: "waiting", colour: "#d97706", of: (c) => c.waiting }]} />
  </div>`;
}

function read(file) {
  try {
    const result = parseResult(file.text);
    if (result) return { result };
    const found = parseRecord(file.text);
    const run = new Run({ most: Infinity });
    run.slots = found.engine.limits.max_batch_size;
    for (const event of found.events) run.add(event);
    return { ...found, run, lane: run.lanes.get(0) };
  } catch (error) {
    if (error instanceof RecordError) return { error: error.message };
    throw error;
  }
}

function summary({ engine, run, requests, cut }) {
  const latencies = `TTFT ${ms(percentile(run.ttft, 0.5))} (p99 ${ms(percentile(run.ttft, 0.99))}), TBT ${ms(percentile(run.tbt, 0.5))} (p99 ${ms(percentile(run.tbt, 0.99))})`;
  const ended = cut ? ". The file ends in the middle of a line: the run was cut off" : "";
  return `${engine.policy}, ${engine.kv}: ${count(requests.size, "request")}, ${count(run.iterations, "iteration")}, ${latencies}${ended}.`;
}

function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const stem = (name) => name.replace(/\.[^.]*$/, "");

function savePicture(canvas, name) {
  canvas.toBlob((blob) => offer(blob, `${stem(name)}.png`));
}

async function savePage(file) {
  const response = await fetch("/page/standalone.html");
  if (!response.ok) throw new Error(`the server gave no page (${response.status})`);
  const record = JSON.stringify(file.text).replaceAll("<", "\\u003c");
  const whole = (await response.text()).replace('id="record">""<', () => `id="record">${record}<`);
  offer(new Blob([whole], { type: "text/html" }), `${stem(file.name)}.html`);
}
