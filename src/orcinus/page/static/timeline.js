// Requests over time as a picture: a row for each request, faint while it waits, a mark for each token.

import { colours } from "orcinus/grid.js";

// Draw `requests` (of result.js) until the second `now`, on a scale of `seconds`.
export function drawTimeline(canvas, requests, seconds, now, dark) {
  const scale = devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  Object.assign(canvas, { width: Math.max(1, Math.round(box.width * scale)), height: Math.max(1, Math.round(box.height * scale)) });
  const context = canvas.getContext("2d");
  const row = canvas.height / Math.max(requests.length, 1);
  const tall = Math.max(1, row > 4 ? row - 1 : row);
  const at = (second) => (second / seconds) * canvas.width;
  requests.forEach(({ number, due, times }, place) => {
    if (due > now) return;
    const { prefill, decode, wait } = colours(`request ${number}`, dark);
    const bar = (from, to, colour) => {
      context.fillStyle = colour;
      context.fillRect(at(from), place * row, Math.max(1, at(Math.min(to, now)) - at(from)), tall);
    };
    bar(due, times[0], wait);
    if (times[0] > now) return;
    bar(times[0], times.at(-1), dark ? "#1f2937" : "#f1f5f9");
    const wide = Math.max(1, Math.min(3 * scale, at(times.at(-1) - times[0]) / Math.max(1, times.length)));
    times.forEach((time, index) => {
      if (time > now) return;
      context.fillStyle = index ? decode : prefill;
      context.fillRect(at(time), place * row, index ? wide : Math.max(wide, 2 * scale), tall);
    });
  });
  context.fillStyle = dark ? "#f1f5f9" : "#0f172a";
  context.fillRect(at(now) - 1, 0, 1, canvas.height);
}
