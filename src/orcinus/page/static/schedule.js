// The picture of one engine's schedule, with a cursor that tells about single iterations.

import { useEffect, useRef, useState } from "preact/hooks";
import { html, isDark, useFrames } from "orcinus/dom.js";
import { Grid } from "orcinus/grid.js";
import { describe } from "orcinus/run.js";

// `end`: the column after the last one shown; null = follow the newest.
export function Schedule({ lane, rows, cell = 10, end = null, label, onCanvas }) {
  const canvas = useRef(null);
  const grid = useRef(null);
  const [cursor, setCursor] = useState(null); // { number, slot }
  useEffect(() => {
    grid.current = new Grid(canvas.current);
    onCanvas?.(canvas.current);
  }, []);
  useEffect(() => grid.current?.zoom(cell), [cell, lane]);
  useFrames(() => {
    if (!grid.current || !lane || !canvas.current?.checkVisibility()) return;
    grid.current.layout(Math.max(rows, lane.height, 1), isDark());
    grid.current.draw(lane, end);
  });
  const move = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !lane) return;
    event.preventDefault();
    const last = (end ?? lane.end) - 1;
    const number = Math.min(last, Math.max(lane.first, (cursor?.number ?? last + 1) + step));
    setCursor({ number, slot: -1 });
  };
  const column = cursor && lane?.column(cursor.number);
  return html`<figure class="schedule">
    <canvas
      ref=${canvas}
      tabindex="0"
      role="img"
      aria-label=${`${label}: one row for each slot, one column for each iteration. Left and right arrows read single iterations.`}
      onMouseMove=${(event) => setCursor(grid.current.at(event))}
      onMouseLeave=${() => setCursor(null)}
      onBlur=${() => setCursor(null)}
      onKeyDown=${move}
    ></canvas>
    <figcaption aria-live="polite">${column ? tell(column, cursor.slot) : lane?.last ? describe(lane.last) : "no iteration yet"}</figcaption>
  </figure>`;
}

function tell(column, slot) {
  const cell = column.cells.find((one) => one.slot === slot);
  if (cell) {
    const what = cell.prefill ? `prompt tokens ${cell.start} to ${cell.start + cell.tokens - 1}` : `token ${cell.start}`;
    return `slot ${slot}, request ${cell.id}: ${what}. ${describe(column)}`;
  }
  const wait = column.waits.find((one) => one.slot === slot);
  if (wait) return `slot ${slot}, request ${wait.id} waits: ${wait.reason}. ${describe(column)}`;
  return describe(column);
}

export function Legend() {
  return html`<ul class="legend" aria-label="Legend">
    <li><span class="mark prefill"></span>prompt chunk (prefill)</li>
    <li><span class="mark decode"></span>decode</li>
    <li><span class="mark wait"></span>in a slot, no token</li>
    <li><span class="mark padding"></span>kept by a static batch, its request has ended</li>
    <li><span class="mark preempted"></span>preempted</li>
    <li><span class="mark gap"></span>iterations not seen</li>
  </ul>`;
}
