// A result of `orcinus bench`: each side's requests over time, on one scale, and their latencies.

import { useEffect, useRef, useState } from "preact/hooks";
import { html, ms, useFrames } from "orcinus/dom.js";
import { count } from "orcinus/run.js";
import { Timeline, TimelineLegend } from "orcinus/timeline.js";

const PLAY_S = 10; // a whole run takes so long

export function ResultView({ result, onCanvas }) {
  const seconds = Math.max(...result.sides.map((side) => side.seconds));
  const [now, setNow] = useState(seconds);
  const [playing, setPlaying] = useState(false);
  const last = useRef(0);
  useEffect(() => setNow(seconds), [result]);
  useFrames(() => {
    const time = performance.now();
    const passed = (time - last.current) / 1000;
    last.current = time;
    if (!playing) return;
    const next = Math.min(seconds, now + (passed * seconds) / PLAY_S);
    setNow(next);
    if (next >= seconds) setPlaying(false);
  });
  const play = () => {
    if (now >= seconds) setNow(0);
    setPlaying(!playing);
  };
  return html`<div>
    <p class="note">${result.command}, ${result.when}, commit ${result.commit.slice(0, 12)}. Of each side the repeat of median duration${Math.min(...result.sides.map((side) => side.repeats)) < 7 ? "; fewer than seven repeats do not say which side is better" : ""}.</p>
    <div class="row" role="group" aria-label="Playback">
      <button class="primary" onClick=${play}>${playing ? "❚❚ Pause" : "▶ Play"}</button>
      <label class="grow">Time <input class="grow" type="range" min="0" max=${seconds} step=${seconds / 1000} value=${now} onInput=${(e) => setNow(Number(e.target.value))} /></label>
      <output>${ms(now)} of ${ms(seconds)}</output>
    </div>
    ${result.sides.map((side, at) => html`<${Side} key=${side.name} side=${side} seconds=${seconds} now=${now} onCanvas=${at ? null : onCanvas} />`)}
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
