// The same requests under two policies, one after the other on this engine, side by side.

import { useState } from "preact/hooks";
import { html, ms, percent, useTicks } from "orcinus/dom.js";
import { Run, percentile, sum, timelineOf } from "orcinus/run.js";
import { Legend, Schedule } from "orcinus/schedule.js";
import { Stages } from "orcinus/stages.js";
import { Timeline, TimelineLegend } from "orcinus/timeline.js";
import { POLICIES } from "orcinus/scheduler.js";
import { makeRequests, sendAll } from "orcinus/workload.js";

const WHOLE_S = 1e-4; // no time passes between the tokens of an answer that was held back
const STARTS = ["request-level", "stall-free:token_budget=128:prompt_budget=512"];

export function Compare({ live }) {
  const [policies, setPolicies] = useState(STARTS);
  const [load, setLoad] = useState({ count: 16, rate: 0, longPrompt: 300, seed: 1 });
  const [sides, setSides] = useState([]); // { policy, run, seconds, done }
  const [running, setRunning] = useState(null);
  const [error, setError] = useState("");
  useTicks(running ? 4 : 0.5);
  const start = async (event) => {
    event.preventDefault();
    const controller = new AbortController();
    const before = live.state;
    setRunning(controller);
    setError("");
    const made = policies.map((policy) => ({ policy, run: new Run({ tokenTimes: true }), seconds: 0, done: false }));
    setSides(made);
    try {
      if (before.running + before.waiting > 0) throw new Error("the engine serves other requests: wait until it is idle, or both runs are disturbed");
      if (before.paused) throw new Error("the engine is paused: resume it first");
      for (const side of made) await run(live, side, load, controller.signal);
    } catch (failure) {
      if (!controller.signal.aborted) setError(failure.message);
    }
    try {
      await live.use({ policy: before.policy });
    } catch (failure) {
      setError(`the policy of before could not be restored: ${failure.message}`);
    }
    setRunning(null);
  };
  const seconds = Math.max(0.001, ...sides.map((side) => lastToken(side)));
  const choose = (at) => (event) => setPolicies(policies.map((one, index) => (index === at ? event.target.value : one)));
  const number = (name) => (event) => setLoad({ ...load, [name]: Number(event.target.value) });
  return html`<section aria-label="Compare">
    <form class="controls" onSubmit=${start}>
      <fieldset>
        <legend>Policies</legend>
        ${policies.map((policy, at) => html`<label key=${at}>${at ? "then" : "first"} <select value=${policy} onChange=${choose(at)}>${POLICIES.map(([value, name]) => html`<option value=${value}>${name}</option>`)}</select></label>`)}
      </fieldset>
      <fieldset>
        <legend>The same requests for both</legend>
        <label>Requests <input type="number" min="2" max="256" value=${load.count} onInput=${number("count")} /></label>
        <label>per second <input type="number" min="0" step="0.5" value=${load.rate} onInput=${number("rate")} title="0 = all at once" /></label>
        <label>long prompts <input type="number" min="1" value=${load.longPrompt} onInput=${number("longPrompt")} title="words of every fourth prompt" /></label>
        <label>seed <input type="number" min="0" value=${load.seed} onInput=${number("seed")} /></label>
        ${running ? html`<button type="button" onClick=${() => running.abort()}>Stop</button>` : html`<button class="primary" disabled=${!live.state}>Run both</button>`}
      </fieldset>
    </form>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${sides.length === 0 && html`<p class="empty">Static batches hold the slots of short answers until the longest ends. Prefill-first stalls running answers for each new prompt. Run two policies to see it.</p>`}
    <div class="sides">
      ${sides.map((side, at) => html`<${Side} key=${at} side=${side} seconds=${seconds} rows=${live.state?.limits.max_batch_size ?? 8} />`)}
    </div>
    ${sides.length > 0 && html`<${Legend} />`}
    ${sides.length > 0 && html`<${TimelineLegend} />`}
    ${sides.length > 0 && sides.every((side) => side.done) && html`<${Verdict} sides=${sides} />`}
  </section>`;
}

async function run(live, side, load, signal) {
  await live.use({ policy: side.policy });
  side.run.slots = live.state.limits.max_batch_size;
  live.runs.add(side.run);
  const began = performance.now();
  try {
    // a salt of its own: the second run must not find the prefixes of the first
    const salt = `compare ${began} ${Math.random()}`;
    await sendAll(makeRequests(load), { signal, salt });
  } finally {
    live.runs.delete(side.run);
    side.seconds = (performance.now() - began) / 1000;
  }
  signal.throwIfAborted();
  side.done = true;
}

// Seconds from a side's first arrival to its last token so far.
function lastToken({ run }) {
  return Math.max(0, ...timelineOf(run).map((one) => one.times.at(-1)));
}

// `seconds`: of the longer side, so that both have one scale of time.
function Side({ side, seconds, rows }) {
  const lanes = [...side.run.lanes.values()];
  return html`<div>
    <h2>${side.policy}</h2>
    ${lanes.length === 0 && html`<${Schedule} rows=${Math.max(rows, 1)} label=${side.policy} />`}
    ${lanes.map((lane) => html`<${Schedule} key=${lane.replica} lane=${lane} rows=${Math.max(rows, 1)} cell=${6} label=${lanes.length > 1 ? `${side.policy}, replica ${lane.replica}` : side.policy} />`)}
    ${lanes.map((lane) => lane.pipeline.stages > 1 && html`<${Stages} key=${`stages ${lane.replica}`} lane=${lane} label="Pipeline stages" />`)}
    <div class="schedule"><${Timeline} requests=${timelineOf(side.run)} seconds=${seconds} told=${side.policy} /></div>
    <p class="note">${side.done ? `done in ${ms(side.seconds)}` : side.run.iterations ? "running …" : "waits for its turn"}</p>
  </div>`;
}

const ROWS = [
  ["all answers after", (side) => side.seconds, ms],
  ["TTFT, median", (side) => percentile(side.run.ttft, 0.5), ms],
  ["TTFT, p99", (side) => percentile(side.run.ttft, 0.99), ms],
  ["time between tokens, median", (side) => gap(side.run, 0.5), ms],
  ["time between tokens, p99", (side) => gap(side.run, 0.99), ms],
  ["longest stall between two tokens", (side) => gap(side.run, 1), ms],
  ["whole answers, median", (side) => percentile(answers(side.run), 0.5), ms],
  ["iterations", (side) => side.run.iterations, (value) => value.toLocaleString("en")],
  ["slots empty while requests waited", (side) => wasted(side.run), percent],
];

// Seconds of all answers: the last ones are removed by no later iteration.
const answers = (run) => [...run.e2e, ...run.soFar.values()];

// A percentile of the times between tokens; undefined if answers came whole: then all the waiting is before the first token.
function gap(run, share) {
  return percentile(run.tbt, 1) > WHOLE_S ? percentile(run.tbt, share) : undefined;
}

function wasted(run) {
  const lanes = [...run.lanes.values()];
  return sum(lanes, (lane) => lane.idle) / Math.max(1, sum(lanes, (lane) => lane.idle + lane.used));
}

function Verdict({ sides }) {
  return html`<table class="verdict">
    <caption>The same requests, measured here; other programs on this machine disturb it</caption>
    <thead><tr><th></th>${sides.map((side) => html`<th scope="col">${side.policy}</th>`)}</tr></thead>
    <tbody>
      ${ROWS.map(([name, of, show]) => {
        const values = sides.map(of);
        const best = Math.min(...values.filter((value) => value !== undefined));
        return html`<tr><th scope="row">${name}</th>${values.map((value) => html`<td class=${value === best && !values.includes(undefined) && values[0] !== values[1] ? "best" : ""}>${value === undefined ? "answers came whole" : show(value)}</td>`)}</tr>`;
      })}
    </tbody>
  </table>`;
}
