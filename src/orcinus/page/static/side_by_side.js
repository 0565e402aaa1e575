// Recorded runs side by side, on one scale of time from each run's first arrival.

import { useMemo } from "preact/hooks";
import { html, ms } from "orcinus/dom.js";
import { Playback, usePlayback } from "orcinus/playback.js";
import { Blocks, summary } from "orcinus/recorded_run.js";
import { percentile, timelineOf } from "orcinus/run.js";
import { Legend, Schedule } from "orcinus/schedule.js";
import { Timeline, TimelineLegend, longestStall } from "orcinus/timeline.js";

const PLAY_S = 12; // the longest run takes so long
const STALLS_ACROSS = 30; // longest stalls that would fit side by side: so one can be seen

export function SideBySide({ runs, onCanvas }) {
  const sides = useMemo(() => runs.map(placed), [runs]);
  const seconds = Math.max(...sides.map((side) => side.seconds));
  const stalls = useMemo(() => sides.map((side) => longestStall(side.requests, Infinity)), [sides]);
  const span = Math.min(seconds, Math.max(STALLS_ACROSS * Math.max(...stalls.map((stall) => stall?.seconds ?? 0)), seconds / 1000));
  const playback = usePlayback(seconds, PLAY_S);
  const { now, stopAt } = playback;
  return html`<div>
    <${Playback} playback=${playback}>
      ${stalls.map((stall, at) => stall && html`<button key=${at} onClick=${() => stopAt(stall.from + stall.seconds + span / 3)}>Longest stall of ${sides[at].found.name}</button>`)}
    <//>
    <div class="sides">
      ${sides.map((side, at) => html`<${Side} key=${at} side=${side} now=${now} span=${span} onCanvas=${at ? null : onCanvas} />`)}
    </div>
    <${Legend} />
    <${TimelineLegend} />
  </div>`;
}

// A run with its requests and iterations on a scale that begins with its first arrival.
function placed(found) {
  const requests = timelineOf(found.run);
  const begin = Math.min(...[...found.requests.values()].map((one) => one.arrival), found.events[0].at);
  const shift = (found.run.times.size ? Math.min(...[...found.run.times.values()].map((one) => one.due)) : begin) - begin;
  const moved = requests.map((one) => ({ ...one, due: one.due + shift, times: one.times.map((time) => time + shift) }));
  const returns = found.lane.columns.map((column) => column.returned - begin);
  return { found, requests: moved, returns, seconds: Math.max(returns.at(-1), 1e-6) };
}

// `span`: seconds shown before `now`.
function Side({ side, now, span, onCanvas }) {
  const { found, requests, returns } = side;
  const at = Math.max(1, returns.filter((one) => one <= now).length);
  const name = `${found.name}: ${found.engine.policy}`;
  return html`<div>
    <h2>${name}</h2>
    <p class="note">${summary(found)} Longest stall ${ms(percentile(found.run.tbt, 1))}.</p>
    <${Schedule} lane=${found.lane} rows=${Math.max(found.lane.height, 4)} cell=${6} end=${at} label=${name} onCanvas=${onCanvas} />
    <div class="schedule"><${Timeline} requests=${requests} begin=${Math.max(0, now - span)} seconds=${Math.max(now, span)} now=${now} told=${name} /></div>
    <${Blocks} found=${found} at=${at} />
  </div>`;
}
