// The scheduler at work: its slots, queue, memory and latencies, and what steers it.

import { useState } from "preact/hooks";
import { BlockLegend, BlockMap } from "orcinus/blocks.js";
import { Chart } from "orcinus/charts.js";
import { html, ms, percent, short, useAction, useNarrow, useTicks } from "orcinus/dom.js";
import { count, longestGap, longestWait, percentile, sum, tokensOf } from "orcinus/run.js";
import { Legend, Schedule } from "orcinus/schedule.js";
import { Stages } from "orcinus/stages.js";
import { makeRequests, sendAll } from "orcinus/workload.js";

const SPEEDS = [[0, "full speed"], [0.05, "20 a second"], [0.1, "10 a second"], [0.25, "4 a second"], [1, "1 a second"]];
export const POLICIES = [
  ["stall-free:token_budget=128:prompt_budget=512", "stall-free (SARATHI-Serve)"],
  ["orca", "orca (iteration-level)"],
  ["request-level", "request-level (static batches)"],
  ["fastertransformer", "fastertransformer (static, padded)"],
  ["prefill-first", "prefill-first (as vLLM v0)"],
  ["sarathi:chunk_size=128", "sarathi (chunked prefills)"],
  ["latency-target:tbt=0.05", "latency-target (50 ms)"],
];
const ORDERS = ["fcfs", "shortest-first", "fair", "priority"];
const RECENT = 400; // iterations in the charts
const RATE_S = 3; // seconds over which rates are taken

export function SchedulerView({ live, shown }) {
  useTicks(shown ? 4 : 0.2);
  const narrow = useNarrow();
  const [cell, setCell] = useState(10);
  const [objective, setObjective] = useState({ ttft: 1, tbt: 0.1 });
  if (!shown) return null;
  const lanes = [...live.run.lanes.values()];
  const newest = lanes[0]?.columns.slice(-RECENT) ?? [];
  const promised = promisedBounds(live.requests);
  const bounds = { ...objective, ...promised };
  const controls = html`<${Controls} live=${live} objective=${objective} onObjective=${setObjective} />`;
  const figures = html`<${Figures} live=${live} lanes=${lanes} bounds=${bounds} promised=${promised} />`;
  // a phone shows the picture first
  return html`<section aria-label="Scheduler">
    ${!narrow && controls}
    ${!narrow && figures}
    <div class="columns">
      <div class="wide">
        <div class="row between">
          <h2>Slots by iteration</h2>
          <label>Zoom <input type="range" min="2" max="24" value=${cell} onInput=${(event) => setCell(Number(event.target.value))} /></label>
        </div>
        ${lanes.length === 0 && html`<p class="empty">No iteration yet. Press <i>Send requests</i>, or ask from any client.</p>`}
        ${lanes.map(
          (lane) => html`<${Lane} key=${lane.replica} lane=${lane} lanes=${lanes} live=${live} cell=${cell} />`,
        )}
        <${Legend} />
        ${narrow && controls}
        ${narrow && figures}
        <div class="charts">
          <${Chart} title="Time to first token" unit="ms, the longest of each iteration" columns=${newest} bound=${1000 * bounds.ttft} series=${[{ label: "TTFT", colour: "#be185d", of: longestWait, dots: true }]} />
          <${Chart} title="Time between tokens" unit="ms, the longest of each iteration" columns=${newest} bound=${1000 * bounds.tbt} series=${[{ label: "TBT", colour: "#0284c7", of: longestGap }]} />
          <${Chart} title="Tokens of an iteration" columns=${newest} series=${[{ label: "prompts", colour: "#7c3aed", of: (c) => c.prefill, fill: true }, { label: "decodes", colour: "#059669", of: (c) => c.tokens - c.prefill, fill: true }]} />
          <${Chart} title="Duration of an iteration" unit="ms" columns=${newest} series=${[{ label: "duration", colour: "#d97706", of: (c) => 1000 * c.seconds }]} />
        </div>
      </div>
      <aside>
        <${Queue} live=${live} lanes=${lanes} />
        <${Memory} live=${live} />
      </aside>
    </div>
  </section>`;
}

function Lane({ lane, lanes, live, cell }) {
  const rows = Math.min(live.state?.limits.max_batch_size ?? 1, Math.max(lane.height, 8));
  const name = lanes.length > 1 ? `Replica ${lane.replica}` : "Schedule";
  return html`<div>
    ${lanes.length > 1 && html`<h3>Replica ${lane.replica}</h3>`}
    <${Schedule} lane=${lane} rows=${rows} cell=${cell} label=${name} />
    ${lane.pipeline.stages > 1 && html`<${Stages} lane=${lane} label=${lanes.length > 1 ? `Pipeline stages of replica ${lane.replica}` : "Pipeline stages"} />`}
  </div>`;
}

// The tightest bounds that live requests were promised, as { ttft?, tbt? } in seconds.
function promisedBounds(found) {
  const bounds = {};
  for (const { slo } of found?.requests ?? []) {
    for (const name of ["ttft", "tbt"]) {
      if (slo?.[name]) bounds[name] = Math.min(bounds[name] ?? Infinity, slo[name]);
    }
  }
  return bounds;
}

function Controls({ live, objective, onObjective }) {
  const [error, act] = useAction();
  const [withSlo, setWithSlo] = useState(false);
  const [outcome, setOutcome] = useState("");
  const [form, setForm] = useState({});
  const [load, setLoad] = useState({ count: 24, rate: 0, longPrompt: 300 });
  const [sending, setSending] = useState(null); // what stops the requests
  const state = live.state;
  const paused = state?.paused ?? false;
  const set = (name) => (event) => setForm({ ...form, [name]: event.target.value });
  const chosen = (name, now) => form[name] ?? now ?? "";
  const bound = (name) => (event) => onObjective({ ...objective, [name]: Math.max(0.001, Number(event.target.value) / 1000 || 0.001) });
  const apply = (event) => {
    event.preventDefault();
    const change = {};
    if (form.policy !== undefined) change.policy = form.policy;
    if (form.order !== undefined) change.order = form.order;
    for (const name of ["max_batch_size", "max_batch_tokens"]) if (form[name]) change[name] = Number(form[name]);
    act(() => live.use(change).then(() => setForm({})));
  };
  const send = async () => {
    const controller = new AbortController();
    setSending(controller);
    setOutcome("");
    const slo = withSlo ? objective : undefined;
    await act(async () => {
      const { requests, refused } = await sendAll(makeRequests({ ...load, seed: Date.now() }), { signal: controller.signal, slo });
      if (withSlo) setOutcome(`${requests - refused} of ${count(requests, "request")} accepted, ${refused} refused: their objectives could not be kept`);
    });
    setSending(null);
  };
  const policies = withCurrent(POLICIES, state?.policy);
  return html`<form class="controls" onSubmit=${apply} aria-label="Controls">
    <fieldset>
      <legend>Time</legend>
      <button type="button" class="primary" disabled=${!state} onClick=${() => act(() => live.pause(!paused))}>${paused ? "▶ Resume" : "❚❚ Pause"}</button>
      <button type="button" disabled=${!state} onClick=${() => act(() => live.step())} title="Pause, and run one iteration">Step</button>
      <label>Speed
        <select value=${state?.min_iteration_seconds ?? 0} onChange=${(event) => act(() => live.use({ min_iteration_seconds: Number(event.target.value) }))}>
          ${SPEEDS.map(([seconds, name]) => html`<option value=${seconds}>${name}</option>`)}
        </select>
      </label>
    </fieldset>
    <fieldset>
      <legend>Scheduling</legend>
      <label>Policy
        <select value=${chosen("policy", state?.policy)} onChange=${set("policy")}>
          ${policies.map(([value, name]) => html`<option value=${value}>${name}</option>`)}
        </select>
      </label>
      <label>Order
        <select value=${chosen("order", state?.order)} onChange=${set("order")}>
          ${withCurrent(ORDERS.map((one) => [one, one]), state?.order).map(([value, name]) => html`<option value=${value}>${name}</option>`)}
        </select>
      </label>
      <label>Batch size <input type="number" min="1" value=${chosen("max_batch_size", state?.limits.max_batch_size)} onInput=${set("max_batch_size")} /></label>
      <label>Batch tokens <input type="number" min="1" value=${chosen("max_batch_tokens", state?.limits.max_batch_tokens)} onInput=${set("max_batch_tokens")} /></label>
      <button disabled=${!Object.keys(form).length}>Apply</button>
    </fieldset>
    <fieldset>
      <legend>Try it</legend>
      <label>Requests <input type="number" min="1" max="256" value=${load.count} onInput=${(e) => setLoad({ ...load, count: Number(e.target.value) })} /></label>
      <label>per second <input type="number" min="0" step="0.5" value=${load.rate} onInput=${(e) => setLoad({ ...load, rate: Number(e.target.value) })} title="0 = all at once" /></label>
      <label>long prompts <input type="number" min="1" value=${load.longPrompt} onInput=${(e) => setLoad({ ...load, longPrompt: Number(e.target.value) })} title="words of every fourth prompt" /></label>
      ${sending
        ? html`<button type="button" onClick=${() => sending.abort()}>Stop</button>`
        : html`<button type="button" class="primary" disabled=${!state} onClick=${send}>Send requests</button>`}
    </fieldset>
    <fieldset>
      <legend>Objectives (ms)</legend>
      <label>TTFT <input type="number" min="1" value=${1000 * objective.ttft} onChange=${bound("ttft")} /></label>
      <label>TBT <input type="number" min="1" value=${1000 * objective.tbt} onChange=${bound("tbt")} /></label>
      <label title="Send each request with this SLO: the engine accepts it only if it is predicted to be kept"><input type="checkbox" checked=${withSlo} onChange=${(e) => setWithSlo(e.target.checked)} /> have them promised</label>
    </fieldset>
    ${outcome && html`<p class="note" role="status">${outcome}</p>`}
    ${error && html`<p class="error" role="alert">${error}</p>`}
  </form>`;
}

// The choices, and what is used now although it is none of them.
function withCurrent(choices, current) {
  return current === undefined || choices.some(([value]) => value === current) ? choices : [[current, current], ...choices];
}

function Figures({ live, lanes, bounds, promised }) {
  const { run, state } = live;
  const last = lanes.map((lane) => lane.last).filter(Boolean);
  const running = sum(last, (column) => column.running);
  const rates = lanes.map((lane) => recentRates(lane));
  const blocks = state && 1 - state.free_blocks / Math.max(1, state.num_blocks);
  const idle = sum(lanes, (lane) => lane.idle);
  const used = sum(lanes, (lane) => lane.used);
  const own = Number(/(?:token_budget|chunk_size)=(\d+)/.exec(state?.policy ?? "")?.[1] ?? Infinity); // the policy's own limit
  const budget = last.length ? sum(last, (c) => c.tokens) / Math.max(1, sum(last, (c) => Math.min(own, c.budget))) : NaN;
  const padding = paddingShare(lanes);
  const bound = (name) => `p99 ${ms(percentile(run[name], 0.99))}, ${promised[name] ? "promised" : "objective"} ${ms(bounds[name])}`;
  const over = (name) => percentile(run[name], 0.99) > bounds[name];
  return html`<dl class="figures">
    <${Figure} name="in the batch" value=${`${sum(last, (c) => c.cells.length)} of ${running}`} note="of the requests in slots" />
    <${Figure} name="waiting" value=${state?.waiting ?? "–"} note="in the queue" />
    <${Figure} name="budget used" value=${percent(budget)} note="tokens of the last iteration" />
    <${Figure} name="K/V memory" value=${percent(blocks)} note="blocks in use" />
    <${Figure} name="iterations/s" value=${Math.round(sum(rates, (r) => r.iterations))} note=${`${run.iterations.toLocaleString("en")} seen`} />
    <${Figure} name="tokens/s" value=${Math.round(sum(rates, (r) => r.tokens))} note="generated" />
    <${Figure} name="TTFT" value=${ms(percentile(run.ttft, 0.5))} note=${bound("ttft")} bad=${over("ttft")} />
    <${Figure} name="TBT" value=${ms(percentile(run.tbt, 0.5))} note=${bound("tbt")} bad=${over("tbt")} />
    <${Promises} counts=${state?.promises} />
    <${Figure} name="slots wasted" value=${percent(idle / Math.max(1, idle + used))} note="empty although requests waited" />
    ${padding !== null && html`<${Figure} name="padding" value=${percent(padding)} note="of a static batch's slots: their requests have ended" />`}
  </dl>`;
}

function Promises({ counts }) {
  if (!counts || counts.made + counts.refused === 0) return null;
  const { made, kept, broken, refused } = counts;
  return html`<${Figure} name="promises kept" value=${`${kept} of ${kept + broken}`} note=${`${made - kept - broken} open, ${refused} refused`} bad=${broken > 0.01 * made} what="1 % are broken" />`;
}

// Of the slots of static batches, the share whose requests have ended; null without one.
function paddingShare(lanes) {
  const columns = lanes.flatMap((lane) => lane.columns.slice(-RECENT));
  const padding = sum(columns, (column) => column.padding.length);
  return padding ? padding / sum(columns, (column) => column.padding.length + column.cells.length) : null;
}

function Figure({ name, value, note, bad, what = "the objective" }) {
  return html`<div class=${`figure ${bad ? "bad" : ""}`}><dt>${name}</dt><dd>${value}</dd><dd class="note">${note}${bad ? ` – over ${what}` : ""}</dd></div>`;
}

// Iterations and tokens per second of the last seconds, on the engine's clock.
function recentRates(lane) {
  const last = lane.last;
  if (!last) return { iterations: 0, tokens: 0 };
  let iterations = 0;
  let tokens = 0;
  let oldest = last.at;
  for (let at = lane.columns.length - 1; at >= 0 && last.at - lane.columns[at].at < RATE_S; at--) {
    const column = lane.columns[at];
    iterations += 1;
    tokens += tokensOf(column);
    oldest = column.at;
  }
  const seconds = Math.max(last.at - oldest + last.seconds, 1e-6);
  return { iterations: iterations / seconds, tokens: tokens / seconds };
}

const MOST_ROWS = 12;

function Queue({ live, lanes }) {
  const found = live.requests;
  const last = new Map(lanes.map((lane) => [lane.replica, lane.last]));
  const inSlots = new Map(lanes.map((lane) => [lane.replica, lane.slots]));
  const waiting = (found?.requests ?? []).filter((one) => !inSlots.get(one.replica)?.has(one.id));
  const why = (one) => last.get(one.replica)?.reasons[one.id] ?? last.get(one.replica)?.others ?? "not seen yet";
  return html`<section>
    <h2>Queue <small>${waiting.length}</small></h2>
    ${waiting.length === 0 && html`<p class="empty">No request waits.</p>`}
    ${waiting.length > 0 &&
    html`<table>
      <thead><tr><th scope="col">request</th><th scope="col">prompt</th><th scope="col">waits</th><th scope="col">because</th></tr></thead>
      <tbody>
        ${waiting.slice(0, MOST_ROWS).map(
          (one) => html`<tr key=${one.id}><td title=${one.id}>${short(one.id)}</td><td>${one.prompt_tokens}</td><td>${ms(Math.max(0, found.now - one.arrival))}</td><td>${live.state?.paused ? "paused" : why(one)}</td></tr>`,
        )}
      </tbody>
    </table>`}
    ${waiting.length > MOST_ROWS && html`<p class="note">and ${waiting.length - MOST_ROWS} more</p>`}
  </section>`;
}

function Memory({ live }) {
  const found = live.requests;
  if (!found) return null;
  const several = found.num_blocks.length > 1;
  return html`<section>
    <h2>K/V blocks</h2>
    ${found.num_blocks.map((blocks, replica) => html`<${BlockMap} key=${replica} requests=${byReplica(found)[replica]} numBlocks=${blocks} blockSize=${found.block_size[replica]} label=${several ? `Replica ${replica}: ` : ""} />`)}
    <${BlockLegend} />
  </section>`;
}

const grouped = new WeakMap(); // an answer of the server -> its requests by replica

function byReplica(found) {
  if (!grouped.has(found)) {
    const parts = found.num_blocks.map(() => []);
    for (const one of found.requests) parts[one.replica].push(one);
    grouped.set(found, parts);
  }
  return grouped.get(found);
}
