// Recorded runs, or a result of a benchmark: drop the files here, then play or scrub.

import { useMemo, useRef } from "preact/hooks";
import { html, useAction } from "orcinus/dom.js";
import { RecordError, parseRecord } from "orcinus/record.js";
import { RecordedRun } from "orcinus/recorded_run.js";
import { SideBySide } from "orcinus/side_by_side.js";
import { parseResult } from "orcinus/result.js";
import { ResultView } from "orcinus/result_view.js";
import { Run } from "orcinus/run.js";

const MOST_FILES = 4; // side by side

// `files`: [{ name, text }].
export function Replay({ files, onFiles, alone }) {
  const canvas = useRef(null);
  const [failure, act] = useAction();
  const found = useMemo(() => readAll(files), [files]);
  const shown = found.filter((one) => !one.error);
  const result = shown.find((one) => one.result);
  const open = (more) => async (event) => {
    const chosen = await readFiles(event.target.files);
    event.target.value = ""; // the same file may be chosen again
    if (chosen.length) onFiles([...(more ? files : []), ...chosen]);
  };
  const onCanvas = (one) => (canvas.current = one);
  return html`<section aria-label="Replay">
    <div class="row">
      <label class="file">Recorded run <input type="file" multiple accept=".jsonl,.json,.ndjson,.txt" onChange=${open(false)} /></label>
      ${shown.length > 0 && !result && html`<label class="file">Another beside it <input type="file" multiple accept=".jsonl,.json,.ndjson,.txt" onChange=${open(true)} /></label>`}
      ${shown.length > 0 && html`<b>${shown.map((one) => one.name).join(" · ")}</b>`}
      ${shown.length > 0 && html`<button onClick=${() => savePicture(canvas.current, shown[0].name)}>Save picture</button>`}
      ${shown.length > 0 && !alone && html`<button onClick=${() => act(() => savePage(shown))}>Save as one HTML file</button>`}
    </div>
    ${failure && html`<p class="error" role="alert">${failure}</p>`}
    ${found.filter((one) => one.error).map((one) => html`<p class="error" role="alert">${one.name}: ${one.error}</p>`)}
    ${found.length === 0 && html`<p class="empty">Drop a file here that <code>orcinus generate</code>, <code>serve</code>, <code>bench</code> or <code>simulate</code> wrote with <code>--record run.jsonl</code>, or a result of <code>orcinus bench --out result.json</code>. Two records are shown side by side.</p>`}
    ${result && html`<${ResultView} key=${result.name} result=${result.result} onCanvas=${onCanvas} />`}
    ${!result && shown.length === 1 && html`<${RecordedRun} key=${shown[0].name} found=${shown[0]} onCanvas=${onCanvas} />`}
    ${!result && shown.length > 1 && html`<${SideBySide} runs=${shown} onCanvas=${onCanvas} />`}
  </section>`;
}

// Files of a drop or a choice as [{ name, text }].
export async function readFiles(list) {
  return Promise.all([...list].slice(0, MOST_FILES).map(async (one) => ({ name: one.name, text: await one.text() })));
}

// Each file as what it holds, or with the error that says why it cannot be shown.
function readAll(files) {
  const found = files.slice(0, MOST_FILES).map(read);
  if (found.length < 2) return found;
  return found.map((one) => (one.result ? { name: one.name, error: "a result of orcinus bench holds several sides already: open it alone" } : one));
}

function read({ name, text }) {
  try {
    const result = parseResult(text);
    if (result) return { name, text, result };
    const found = parseRecord(text);
    const run = new Run({ most: Infinity, tokenTimes: true });
    run.slots = found.engine.limits.max_batch_size;
    for (const event of found.events) run.add(event);
    return { name, text, ...found, run, lane: run.lanes.get(0) };
  } catch (error) {
    if (error instanceof RecordError) return { name, error: error.message };
    return { name, error: "this file looks like a record of iterations, but cannot be read as one" };
  }
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

async function savePage(shown) {
  const response = await fetch("/page/standalone.html");
  if (!response.ok) throw new Error(`the server gave no page (${response.status})`);
  const records = JSON.stringify(shown.map(({ name, text }) => ({ name, text }))).replaceAll("<", "\\u003c");
  const whole = (await response.text()).replace('id="records">[]<', () => `id="records">${records}<`);
  offer(new Blob([whole], { type: "text/html" }), `${stem(shown[0].name)}.html`);
}
