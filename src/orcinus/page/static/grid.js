// The schedule as a picture: a row for each slot, a column for each iteration.

const GOLDEN = 137.508; // degrees: requests that come after each other get hues far apart
const MOST_NUMBERED = 20000;
const GAP = "#d97706";

const numbers = new Map(); // request -> its number, in the order in which they were first seen

// Colours of a request's cells. The hue says which request, the lightness what it computes.
export function colours(id, dark) {
  if (numbers.size >= MOST_NUMBERED) numbers.clear();
  if (!numbers.has(id)) numbers.set(id, numbers.size);
  const hue = Math.round((210 + numbers.get(id) * GOLDEN) % 360);
  return dark
    ? { prefill: `hsl(${hue} 85% 66%)`, decode: `hsl(${hue} 50% 42%)`, wait: `hsl(${hue} 25% 22%)` }
    : { prefill: `hsl(${hue} 75% 40%)`, decode: `hsl(${hue} 65% 68%)`, wait: `hsl(${hue} 40% 91%)` };
}

export class Grid {
  constructor(canvas) {
    this.canvas = canvas;
    this.strip = document.createElement("canvas"); // a ring of columns: each is drawn once
    this.cell = 10; // width of a column
    this.rows = 1;
    this.drawn = 0; // columns drawn so far
    this.end = null; // the column after the last one shown; null = the newest
    this.palette = new Map();
  }

  // Fit to the canvas' size on the page, and to so many rows. Everything is drawn again.
  layout(rows, dark) {
    const scale = devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    const width = Math.max(1, Math.round(box.width * scale));
    const height = Math.max(1, Math.round(box.height * scale));
    if (width === this.canvas.width && height === this.canvas.height && rows === this.rows && dark === this.dark) return;
    Object.assign(this.canvas, { width, height });
    this.rows = rows;
    this.dark = dark;
    this.palette.clear();
    this.width = Math.max(2, Math.round(this.cell * scale));
    this.across = Math.ceil(width / this.width) + 1;
    Object.assign(this.strip, { width: this.across * this.width, height });
    this.drawn = 0;
  }

  zoom(cell) {
    this.cell = cell;
    this.rows = -1;
  }

  // Draw what is new of a lane, up to the column `end` (null = the newest).
  draw(lane, end = null) {
    if (!this.across) return;
    const until = end ?? lane.end;
    if (until < this.drawn || until - this.drawn > this.across) this.drawn = Math.max(0, until - this.across);
    for (; this.drawn < until; this.drawn++) this.paint(lane.column(this.drawn), this.drawn % this.across);
    this.end = until;
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const split = (until % this.across) * this.width; // in the ring, the oldest column begins here
    const shown = Math.min(until, this.across) * this.width;
    const left = Math.min(0, this.canvas.width - shown);
    if (until < this.across) {
      context.drawImage(this.strip, left, 0);
      return;
    }
    context.drawImage(this.strip, split, 0, this.strip.width - split, this.strip.height, left, 0, this.strip.width - split, this.strip.height);
    if (split) context.drawImage(this.strip, 0, 0, split, this.strip.height, left + this.strip.width - split, 0, split, this.strip.height);
  }

  paint(column, place) {
    const context = this.strip.getContext("2d");
    const x = place * this.width;
    const row = this.strip.height / this.rows;
    const inset = row > 6 ? 1 : 0;
    const wide = this.width - (this.width > 4 ? 1 : 0);
    const bar = (slot, colour, share = 1) => {
      context.fillStyle = colour;
      const tall = Math.max(1, row - inset);
      context.fillRect(x, Math.floor(slot * row) + (1 - share) * tall, wide, share * tall);
    };
    context.clearRect(x, 0, this.width, this.strip.height);
    if (!column) return;
    for (const slot of column.padding) this.stripe(x, Math.floor(slot * row), wide, Math.max(1, row - inset));
    for (const { id, slot } of column.waits) bar(slot, this.of(id).wait);
    for (const { id, slot, prefill } of column.cells) bar(slot, prefill ? this.of(id).prefill : this.of(id).decode);
    for (const { slot } of column.preempted) bar(slot, this.dark ? "#f87171" : "#b91c1c", 0.5);
    if (column.gap) {
      context.fillStyle = GAP;
      context.fillRect(x, 0, 2, this.strip.height);
    }
  }

  // A slot that computes nothing of use.
  stripe(x, y, wide, tall) {
    const context = this.strip.getContext("2d");
    context.fillStyle = this.dark ? "#334155" : "#cbd5e1";
    const step = Math.max(2, Math.round(tall / 4));
    for (let at = 0; at < tall; at += 2 * step) context.fillRect(x, y + at, wide, Math.min(step, tall - at));
  }

  of(id) {
    let found = this.palette.get(id);
    if (!found) {
      if (this.palette.size > 4000) this.palette.clear();
      this.palette.set(id, (found = colours(id, this.dark)));
    }
    return found;
  }

  // The column and the slot under a point of the page.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const shown = Math.min(this.end ?? 0, this.across) * this.width;
    const left = Math.min(0, this.canvas.width - shown);
    const first = Math.max(0, (this.end ?? 0) - this.across);
    return {
      number: first + Math.floor((x - left) / this.width),
      slot: Math.floor(((event.clientY - box.top) / box.height) * this.rows),
    };
  }
}
