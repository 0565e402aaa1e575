// Requests over time as a picture: a row for each request, faint while it waits, a mark for each token.

import { useEffect, useRef } from "preact/hooks";
import { html, isDark } from "orcinus/dom.js";
import { colours } from "orcinus/grid.js";

const STALL_SHARE = 0.002; // of the picture's width: a shorter stall is not marked

// The longest time between two tokens of one request until `now`: { place, from, seconds }, or null.
export function longestStall(requests, now) {
  let found = null;
  requests.forEach(({ times }, place) => {
    for (let at = 1; at < times.length && times[at] <= now; at++) {
      const seconds = times[at] - times[at - 1];
      if (seconds > (found?.seconds ?? 0)) found = { place, from: times[at - 1], seconds };
    }
  });
  return found;
}

// Draw `requests` (of result.js) until the second `now`, on a scale from the second `begin` to `end`. The longest stall is red.
function drawTimeline(canvas, all, begin, end, now, dark) {
  const seconds = end - begin;
  const requests = all.filter(({ due, times }) => due <= end && times.at(-1) >= begin);
  const scale = devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  Object.assign(canvas, { width: Math.max(1, Math.round(box.width * scale)), height: Math.max(1, Math.round(box.height * scale)) });
  const context = canvas.getContext("2d");
  const row = canvas.height / Math.max(requests.length, 1);
  const tall = Math.max(1, row > 4 ? row - 1 : row);
  const at = (second) => ((second - begin) / seconds) * canvas.width;
  const width = (long) => (long / seconds) * canvas.width;
  requests.forEach(({ id, number, due, times }, place) => {
    if (due > now) return;
    const { prefill, decode, wait } = colours(id ?? `request ${number}`, dark);
    const bar = (from, to, colour) => {
      context.fillStyle = colour;
      context.fillRect(at(from), place * row, Math.max(1, at(Math.min(to, now)) - at(from)), tall);
    };
    bar(due, times[0], wait);
    if (times[0] > now) return;
    bar(times[0], times.at(-1), dark ? "#1f2937" : "#f1f5f9");
    const wide = Math.max(1, Math.min(3 * scale, width(times.at(-1) - times[0]) / Math.max(1, times.length)));
    times.forEach((time, index) => {
      if (time > now) return;
      context.fillStyle = index ? decode : prefill;
      context.fillRect(at(time), place * row, index ? wide : Math.max(wide, 2 * scale), tall);
    });
  });
  const stall = longestStall(requests, now);
  if (stall && stall.seconds >= STALL_SHARE * seconds) {
    context.fillStyle = dark ? "#f87171" : "#b91c1c";
    context.fillRect(at(stall.from), stall.place * row + tall / 3, width(stall.seconds), Math.max(scale, tall / 3));
  }
  context.fillStyle = dark ? "#f1f5f9" : "#0f172a";
  context.fillRect(at(now) - 1, 0, 1, canvas.height);
}

// `seconds`: where the scale ends; `begin`: where it begins.
export function Timeline({ requests, seconds, begin = 0, now = seconds, told, onCanvas }) {
  const canvas = useRef(null);
  useEffect(() => onCanvas?.(canvas.current), []);
  useEffect(() => drawTimeline(canvas.current, requests, begin, seconds, now, isDark()));
  return html`<canvas ref=${canvas} class="timeline" role="img" aria-label=${`${told}: a row for each request over time, a mark for each token`}></canvas>`;
}

export function TimelineLegend() {
  return html`<p class="note">A row is a request: faint while it waits for its first token, then a mark for each token. Gaps in a row are stalls; <span class="mark stall"></span>the longest is red.</p>`;
}
