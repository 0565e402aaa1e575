// The K/V blocks of an engine as a picture: each square a block, coloured by its request; shared ones are marked.

import { useEffect, useRef, useState } from "preact/hooks";
import { html, isDark, percent } from "orcinus/dom.js";
import { colours } from "orcinus/grid.js";
import { count } from "orcinus/run.js";

// `requests`: [{ id, blocks, filled_blocks }] of one replica.
export function BlockMap({ requests, numBlocks, blockSize, label = "" }) {
  const canvas = useRef(null);
  const drawn = useRef(null); // what the picture shows
  const [counts, setCounts] = useState({ used: 0, shared: 0, saved: 0, empty: 0 });
  const dark = isDark();
  useEffect(() => {
    const { width, height } = canvas.current.getBoundingClientRect();
    const now = [requests, dark, width, height];
    if (drawn.current?.every((one, at) => one === now[at])) return;
    drawn.current = now;
    setCounts(drawBlocks(canvas.current, requests, numBlocks, dark));
  });
  const { used, shared, saved, empty } = counts;
  const parts = [`${used.toLocaleString("en")} of ${count(numBlocks, "block")} of ${blockSize} tokens held`];
  if (shared) parts.push(`${shared} shared, which saves ${saved}`);
  if (empty) parts.push(`${empty} (${percent(empty / used)}) reserved and still empty`);
  const told = label + parts.join(", ");
  return html`<figure>
    <canvas ref=${canvas} class="blocks" role="img" aria-label=${`K/V memory: ${told}`}></canvas>
    <figcaption>${told}</figcaption>
  </figure>`;
}

export function BlockLegend() {
  return html`<p class="note"><span class="mark shared"></span> shared by several requests (a common prefix)</p>`;
}

// Blocks that are reserved and still empty are faint. Returns { used, shared, saved, empty } in blocks; `saved` are those
// that sharing makes unnecessary.
function drawBlocks(canvas, requests, numBlocks, dark) {
  const scale = devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * scale));
  const height = Math.max(1, Math.round(box.height * scale));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const owners = new Map(); // block -> its requests
  const filled = new Set();
  for (const { id, blocks, filled_blocks } of requests) {
    blocks.forEach((block, place) => {
      if (!owners.has(block)) owners.set(block, []);
      owners.get(block).push(id);
      if (place < filled_blocks) filled.add(block);
    });
  }
  const side = Math.max(1, squareSide(width, height, numBlocks));
  const across = Math.max(1, Math.floor(width / side));
  const inner = side > 3 ? side - 1 : side;
  context.fillStyle = dark ? "#1f2937" : "#e5e7eb";
  for (let block = 0; block < numBlocks; block++) {
    if (!owners.has(block)) context.fillRect((block % across) * side, Math.floor(block / across) * side, inner, inner);
  }
  let shared = 0;
  let saved = 0;
  for (const [block, ids] of owners) {
    const x = (block % across) * side;
    const y = Math.floor(block / across) * side;
    const colour = colours(ids[0], dark);
    context.fillStyle = filled.has(block) ? colour.decode : colour.wait;
    context.fillRect(x, y, inner, inner);
    if (ids.length > 1) {
      shared += 1;
      saved += ids.length - 1;
      context.fillStyle = dark ? "#f9fafb" : "#111827";
      const dot = Math.max(1, Math.round(inner / 2.5));
      context.fillRect(x + (inner - dot) / 2, y + (inner - dot) / 2, dot, dot);
    }
  }
  return { used: owners.size, shared, saved, empty: owners.size - filled.size };
}

// The largest side with which so many squares fit.
function squareSide(width, height, count) {
  let side = Math.sqrt((width * height) / Math.max(1, count));
  while (side > 1 && Math.floor(width / Math.floor(side)) * Math.floor(height / Math.floor(side)) < count) side -= 1;
  return Math.floor(Math.min(side, 24));
}
