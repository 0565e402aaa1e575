// Line charts over iterations, by uPlot.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { html, isDark } from "orcinus/dom.js";

const HEIGHT = 130;
const INK = { light: { text: "#475569", grid: "#e2e8f0" }, dark: { text: "#94a3b8", grid: "#1e293b" } };

// `series`: [{ label, colour, of(column), fill?, dots? }]; `columns`: iterations, the oldest first. `bound`: a horizontal line.
export function Chart({ title, unit, columns, series, bound }) {
  const place = useRef(null);
  const plot = useRef(null);
  const dark = isDark();
  useEffect(() => {
    const ink = dark ? INK.dark : INK.light;
    const axis = { stroke: ink.text, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false }, font: "11px system-ui", size: 44 };
    const shown = bound ? [...series, { label: "objective", colour: "#dc2626", of: () => bound }] : series;
    const options = {
      width: place.current.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, high > 0 ? 1.1 * high : 1] } },
      axes: [{ ...axis, size: 26 }, axis],
      series: [
        {},
        ...shown.map((one) => ({
          label: one.label,
          stroke: one.colour,
          width: one.label === "objective" ? 1 : 1.5,
          dash: one.label === "objective" ? [4, 4] : undefined,
          fill: one.fill ? `${one.colour}33` : undefined,
          points: { show: Boolean(one.dots), size: 4, fill: one.colour },
        })),
      ],
    };
    plot.current = new uPlot(options, [[], ...shown.map(() => [])], place.current);
    plot.current.shown = shown;
    const resized = new ResizeObserver(() => {
      if (place.current) plot.current.setSize({ width: place.current.clientWidth, height: HEIGHT });
    });
    resized.observe(place.current);
    return () => (resized.disconnect(), plot.current.destroy());
  }, [dark, bound]);
  useEffect(() => {
    const numbers = columns.map((column) => column.number);
    plot.current?.setData([numbers, ...plot.current.shown.map((one) => columns.map(one.of))]);
  });
  const newest = columns.at(-1);
  const told = newest ? series.map((one) => `${one.label} ${round(one.of(newest))}`).join(", ") : "no data yet";
  return html`<figure class="chart">
    <figcaption>${title}${unit ? html` <small>(${unit})</small>` : ""} ${series.length > 1 && series.map((one) => html`<span class="key"><i ref=${paint(one.colour)}></i>${one.label}</span>`)}</figcaption>
    <div ref=${place} role="img" aria-label=${`${title}: ${told}`}></div>
  </figure>`;
}

const paint = (colour) => (element) => element && (element.style.background = colour);

function round(value) {
  return value === null || value === undefined ? "none" : Number(value).toPrecision(3);
}
