// One recorded run, iteration by iteration.

import { useEffect, useMemo, useState } from "preact/hooks";
import { BlockLegend, BlockMap } from "orcinus/blocks.js";
import { Chart } from "orcinus/charts.js";
import { html, ms } from "orcinus/dom.js";
import { RecordedBlocks } from "orcinus/recorded_blocks.js";
import { count, longestGap, percentile } from "orcinus/run.js";
import { Legend, Schedule } from "orcinus/schedule.js";

const CHARTED = 400;
const SPEEDS = [1, 4, 16, 64, 256]; // iterations a second

export function RecordedRun({ found, onCanvas }) {
  const { lane } = found;
  const [cell, setCell] = useState(8);
  const [at, setAt] = useState(lane.end);
  const [speed, setSpeed] = useState(16);
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return undefined;
    const every = Math.max(16, 1000 / speed);
    const timer = setInterval(() => setAt((now) => Math.min(lane.end, now + Math.max(1, Math.round((speed * every) / 1000)))), every);
    return () => clearInterval(timer);
  }, [playing, speed, lane]);
  useEffect(() => {
    if (playing && at >= lane.end) setPlaying(false);
  }, [at]);
  const play = () => {
    if (at >= lane.end) setAt(0);
    setPlaying(!playing);
  };
  return html`<div>
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
    <${Schedule} lane=${lane} rows=${Math.max(lane.height, 4)} cell=${cell} end=${at} label="Recorded schedule" onCanvas=${onCanvas} />
    <${Legend} />
    <${Blocks} found=${found} at=${at} />
    <${Charts} lane=${lane} at=${at} />
  </div>`;
}

export function Blocks({ found, at, label }) {
  const { engine, events } = found;
  const recorded = useMemo(() => new RecordedBlocks(events, engine.block_size), [events]);
  const requests = useMemo(() => (recorded.known ? recorded.after(at) : []), [recorded, at]);
  if (!recorded.known) return html`<p class="note">This record does not tell which K/V blocks requests held: it is of an older version.</p>`;
  return html`<section>
    <h2>K/V blocks</h2>
    <${BlockMap} requests=${requests} numBlocks=${engine.num_blocks} blockSize=${engine.block_size} label=${label} />
    <${BlockLegend} />
  </section>`;
}

function Charts({ lane, at }) {
  const columns = useMemo(() => lane.columns.slice(Math.max(0, at - CHARTED), at), [lane, at]);
  return html`<div class="charts">
    <${Chart} title="Time between tokens" unit="ms, the longest of each iteration" columns=${columns} series=${[{ label: "TBT", colour: "#0284c7", of: longestGap }]} />
    <${Chart} title="Tokens of an iteration" columns=${columns} series=${[{ label: "prompts", colour: "#7c3aed", of: (c) => c.prefill, fill: true }, { label: "decodes", colour: "#059669", of: (c) => c.tokens - c.prefill, fill: true }]} />
    <${Chart} title="Waiting requests" columns=${columns} series=${[{ label: "waiting", colour: "#d97706", of: (c) => c.waiting }]} />
  </div>`;
}

export function summary({ engine, run, requests, cut }) {
  const latencies = `TTFT ${ms(percentile(run.ttft, 0.5))} (p99 ${ms(percentile(run.ttft, 0.99))}), TBT ${ms(percentile(run.tbt, 0.5))} (p99 ${ms(percentile(run.tbt, 0.99))})`;
  const ended = cut ? ". The file ends in the middle of a line: the run was cut off" : "";
  return `${engine.policy}, ${engine.kv}: ${count(requests.size, "request")}, ${count(run.iterations, "iteration")}, ${latencies}${ended}.`;
}
