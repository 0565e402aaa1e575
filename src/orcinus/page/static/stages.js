// Pipeline stages as lanes over time: a block for each batch, stripes for bubbles.

import { useRef } from "preact/hooks";
import { html, isDark, percent, useFrames } from "orcinus/dom.js";
import { bubbleShare, stageUse } from "orcinus/pipeline.js";

const SHOWN = 24; // batches across the picture
const HUES = [205, 28, 150, 285, 90, 330, 60, 245]; // of neighbouring batches

export function Stages({ lane, label }) {
  const canvas = useRef(null);
  const { pipeline } = lane;
  useFrames(() => canvas.current?.checkVisibility() && drawStages(canvas.current, pipeline, isDark()));
  const batches = pipeline.complete();
  const use = stageUse(batches, pipeline.stages);
  const told = use.map((one, stage) => `stage ${stage} ${percent(bubbleShare(one))}`).join(", ");
  return html`<figure class="stages">
    <h3>${label}</h3>
    <canvas ref=${canvas} role="img" aria-label=${`${label}, a row for each stage over time. Bubbles: ${told}`}></canvas>
    <figcaption><span class="mark bubble"></span>bubbles, of the last ${batches.length} batches: ${told}</figcaption>
  </figure>`;
}

function drawStages(canvas, pipeline, dark) {
  const scale = devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  const batches = pipeline.complete().slice(-SHOWN - 8);
  const newest = batches.at(-1)?.batch;
  const state = [newest, box.width, box.height, dark, scale].join();
  if (canvas.state === state) return; // nothing is new
  canvas.state = state;
  Object.assign(canvas, { width: Math.max(1, Math.round(box.width * scale)), height: Math.max(1, Math.round(box.height * scale)) });
  const context = canvas.getContext("2d");
  if (!batches.length) return;
  const end = batches.at(-1).runs.at(-1).ended;
  const begin = batches[Math.max(0, batches.length - SHOWN)].runs[0].began;
  const x = (second) => ((second - begin) / Math.max(end - begin, 1e-9)) * canvas.width;
  const row = canvas.height / pipeline.stages;
  const tall = row - 2 * scale;
  context.font = `${11 * scale}px system-ui`;
  context.textBaseline = "middle";
  stageUse(batches, pipeline.stages).forEach(({ bubbles }, stage) => {
    for (const { began, ended } of bubbles) stripes(context, x(began), stage * row, x(ended) - x(began), tall, dark, scale);
  });
  for (const { batch, runs } of batches) {
    const hue = HUES[batch % HUES.length];
    runs.forEach(({ began, ended }, stage) => {
      const wide = Math.max(1, x(ended) - x(began) - scale);
      context.fillStyle = dark ? `hsl(${hue} 55% 45%)` : `hsl(${hue} 65% 72%)`;
      context.fillRect(x(began), stage * row, wide, tall);
      const text = String(batch);
      if (context.measureText(text).width + 4 * scale > wide) return;
      context.fillStyle = dark ? "#f8fafc" : "#0f172a";
      context.fillText(text, x(began) + 2 * scale, stage * row + tall / 2);
    });
  }
}

function stripes(context, left, top, wide, tall, dark, scale) {
  context.save();
  context.beginPath();
  context.rect(left, top, wide, tall);
  context.clip();
  context.strokeStyle = dark ? "#f87171" : "#dc2626";
  context.lineWidth = scale;
  context.beginPath();
  for (let at = left - tall; at < left + wide; at += 6 * scale) {
    context.moveTo(at, top + tall);
    context.lineTo(at + tall, top);
  }
  context.stroke();
  context.restore();
}
