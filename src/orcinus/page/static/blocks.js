// The K/V blocks of an engine as a picture: each square a block, coloured by its request; shared ones are marked.

import { colours } from "orcinus/grid.js";

// Draw `requests` ({ id, blocks }) of one replica. Returns { used, shared } in blocks.
export function drawBlocks(canvas, requests, numBlocks, dark) {
  const scale = devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * scale));
  const height = Math.max(1, Math.round(box.height * scale));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const owners = new Map();
  for (const { id, blocks } of requests) {
    for (const block of blocks) owners.set(block, [...(owners.get(block) ?? []), id]);
  }
  const side = Math.max(1, squareSide(width, height, numBlocks));
  const across = Math.max(1, Math.floor(width / side));
  const inner = side > 3 ? side - 1 : side;
  context.fillStyle = dark ? "#1f2937" : "#e5e7eb";
  for (let block = 0; block < numBlocks; block++) {
    if (!owners.has(block)) context.fillRect((block % across) * side, Math.floor(block / across) * side, inner, inner);
  }
  let shared = 0;
  for (const [block, ids] of owners) {
    const x = (block % across) * side;
    const y = Math.floor(block / across) * side;
    context.fillStyle = colours(ids[0], dark).decode;
    context.fillRect(x, y, inner, inner);
    if (ids.length > 1) {
      shared += 1;
      context.fillStyle = dark ? "#f9fafb" : "#111827";
      const dot = Math.max(1, Math.round(inner / 2.5));
      context.fillRect(x + (inner - dot) / 2, y + (inner - dot) / 2, dot, dot);
    }
  }
  return { used: owners.size, shared };
}

// The largest side with which so many squares fit.
function squareSide(width, height, count) {
  let side = Math.sqrt((width * height) / Math.max(1, count));
  while (side > 1 && Math.floor(width / Math.floor(side)) * Math.floor(height / Math.floor(side)) < count) side -= 1;
  return Math.floor(Math.min(side, 24));
}
