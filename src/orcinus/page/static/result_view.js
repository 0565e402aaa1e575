// A result of `orcinus bench`: each side's requests over time, on one scale, and their latencies.

import { html, ms } from "orcinus/dom.js";
import { Playback, usePlayback } from "orcinus/playback.js";
import { count } from "orcinus/run.js";
import { Timeline, TimelineLegend } from "orcinus/timeline.js";

const PLAY_S = 10; // a whole run takes so long

export function ResultView({ result, onCanvas }) {
  const seconds = Math.max(...result.sides.map((side) => side.seconds));
  const playback = usePlayback(seconds, PLAY_S, result);
  return html`<div>
    <p class="note">${result.command}, ${result.when}, commit ${result.commit.slice(0, 12)}. Of each side the repeat of median duration${Math.min(...result.sides.map((side) => side.repeats)) < 7 ? "; fewer than seven repeats do not say which side is better" : ""}.</p>
    <${Playback} playback=${playback} />
    ${result.sides.map((side, at) => html`<${Side} key=${side.name} side=${side} seconds=${seconds} now=${playback.now} onCanvas=${at ? null : onCanvas} />`)}
    <${TimelineLegend} />
  </div>`;
}

function Side({ side, seconds, now, onCanvas }) {
  const told = `${count(side.requests.length, "request")} in ${ms(side.seconds)}; TTFT ${ms(side.ttft)} (p99 ${ms(side.ttft99)}), TBT p99 ${ms(side.tbt99)}, longest stall ${ms(side.stall)}`;
  return html`<figure class="schedule">
    <h2>${side.name}</h2>
    <${Timeline} requests=${side.requests} seconds=${seconds} now=${now} told=${`${side.name}, ${told}`} onCanvas=${onCanvas} />
    <figcaption>${told}${side.failed ? `; ${side.failed} not answered` : ""}${side.doubts.length ? `. In doubt: ${side.doubts.join("; ")}` : ""}</figcaption>
  </figure>`;
}
