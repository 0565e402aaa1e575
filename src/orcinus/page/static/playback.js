// A run that is played and scrubbed: its time, and the controls for it.

import { useEffect, useRef, useState } from "preact/hooks";
import { html, ms, useFrames } from "orcinus/dom.js";

// Time `now` of a run of so many seconds, all of which take `duration` seconds to play; `key`: another run begins at its end.
export function usePlayback(seconds, duration, key = seconds) {
  const [now, setNow] = useState(seconds);
  const [playing, setPlaying] = useState(false);
  const last = useRef(0);
  useEffect(() => setNow(seconds), [key]);
  useFrames(() => {
    const time = performance.now();
    const passed = (time - last.current) / 1000;
    last.current = time;
    if (!playing) return;
    const next = Math.min(seconds, now + (passed * seconds) / duration);
    setNow(next);
    if (next >= seconds) setPlaying(false);
  });
  const play = () => {
    if (now >= seconds) setNow(0);
    setPlaying(!playing);
  };
  const stopAt = (time) => (setPlaying(false), setNow(Math.min(seconds, time)));
  return { seconds, now, setNow, playing, play, stopAt };
}

export function Playback({ playback, children }) {
  const { seconds, now, setNow, playing, play } = playback;
  return html`<div class="row" role="group" aria-label="Playback">
    <button class="primary" onClick=${play}>${playing ? "❚❚ Pause" : "▶ Play"}</button>
    <label class="grow">Time <input class="grow" type="range" min="0" max=${seconds} step=${seconds / 1000} value=${now} onInput=${(e) => setNow(Number(e.target.value))} /></label>
    <output>${ms(now)} of ${ms(seconds)}</output>
    ${children}
  </div>`;
}
