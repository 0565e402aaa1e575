// A run, as the sum of its iterations: the same for a live server and for a recorded file.

const LATENCIES = 2000; // newest latencies kept for percentiles

// One engine: which request sits in which slot, and its newest iterations.
class Lane {
  constructor(replica, most) {
    this.replica = replica;
    this.most = most;
    this.columns = []; // iterations, the oldest first
    this.first = 0; // how many were forgotten before columns[0]
    this.slots = new Map(); // request -> slot
    this.free = []; // slots that are free again
    this.height = 0; // slots used so far
    this.idle = 0; // slots that computed nothing although requests waited, summed over all iterations
    this.used = 0;
  }

  slotOf(id) {
    let slot = this.slots.get(id);
    if (slot === undefined) {
      if (this.free.length) {
        this.free.sort((a, b) => b - a);
        slot = this.free.pop();
      } else {
        slot = this.height++;
      }
      this.slots.set(id, slot);
    }
    return slot;
  }

  leave(id) {
    const slot = this.slots.get(id);
    if (slot === undefined) return;
    this.slots.delete(id);
    this.free.push(slot);
  }

  // Add an iteration of an engine with so many slots.
  add(event, slots) {
    const preempted = [];
    for (const [id, reason] of Object.entries(event.reasons)) {
      if (reason === "preempted" && this.slots.has(id)) preempted.push({ id, slot: this.slots.get(id) });
    }
    for (const id of event.removed) this.leave(id);
    for (const { id } of preempted) this.leave(id);
    const cells = event.chunks.map((chunk) => ({ ...chunk, slot: this.slotOf(chunk.id) }));
    const served = new Set(event.chunks.map((chunk) => chunk.id));
    const waits = [];
    for (const [id, slot] of this.slots) {
      if (!served.has(id)) waits.push({ id, slot, reason: event.reasons[id] ?? "not chosen" });
    }
    const prefill = sum(cells, (cell) => (cell.prefill ? cell.tokens : 0));
    const tokens = sum(cells, (cell) => cell.tokens);
    const column = { ...event, number: this.first + this.columns.length, cells, waits, preempted, prefill, tokens };
    column.gap = this.columns.length > 0 && event.batch !== this.columns.at(-1).batch + 1;
    this.idle += Math.max(0, Math.min(slots, event.running + event.waiting) - cells.length);
    this.used += cells.length;
    this.columns.push(column);
    if (this.columns.length > 2 * this.most) {
      this.first += this.columns.length - this.most;
      this.columns = this.columns.slice(-this.most);
    }
    return column;
  }

  get last() {
    return this.columns.at(-1);
  }

  get end() {
    return this.first + this.columns.length;
  }

  // The iteration of a number, or undefined if it is forgotten or did not happen yet.
  column(number) {
    return this.columns[number - this.first];
  }
}

export class Run {
  constructor({ most = 5000 } = {}) {
    this.most = most; // iterations kept of each engine
    this.lanes = new Map();
    this.ttft = []; // seconds, the newest last
    this.tbt = [];
    this.tokens = 0; // generated
    this.iterations = 0;
    this.dropped = 0;
    this.slots = Infinity; // of each engine (max_batch_size)
    this.e2e = []; // seconds from arrival to the last token, of requests seen from their first token on
    this.soFar = new Map(); // the same of live requests
  }

  // Add an iteration: an event of /v1/scheduler/iterations.
  add(event) {
    let lane = this.lanes.get(event.replica);
    if (!lane) {
      lane = new Lane(event.replica, this.most);
      this.lanes.set(event.replica, lane);
      this.lanes = new Map([...this.lanes].sort(([a], [b]) => a - b));
    }
    keep(this.ttft, Object.values(event.ttft));
    keep(this.tbt, Object.values(event.tbt).flat());
    for (const [id, seconds] of Object.entries(event.ttft)) this.soFar.set(id, seconds);
    for (const [id, gaps] of Object.entries(event.tbt)) {
      if (this.soFar.has(id)) this.soFar.set(id, this.soFar.get(id) + sum(gaps, (seconds) => seconds));
    }
    for (const id of event.removed) {
      if (this.soFar.has(id)) keep(this.e2e, [this.soFar.get(id)]);
      this.soFar.delete(id);
    }
    this.tokens += tokensOf(event);
    this.iterations += 1;
    this.dropped = Math.max(this.dropped, event.dropped ?? 0);
    return lane.add(event, this.slots);
  }
}

function keep(list, values) {
  list.push(...values);
  if (list.length > 2 * LATENCIES) list.splice(0, list.length - LATENCIES);
}

// Tokens that an iteration generated.
export function tokensOf({ ttft, tbt }) {
  return Object.keys(ttft).length + sum(Object.values(tbt), (gaps) => gaps.length);
}

// The longest time between two tokens that an iteration ended, in milliseconds; null without one.
export function longestGap({ tbt }) {
  const gaps = Object.values(tbt).flat();
  return gaps.length ? 1000 * Math.max(...gaps) : null;
}

// Seconds under which this share of the values lies (nearest rank), or undefined without values.
export function percentile(values, share) {
  if (!values.length) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

export function sum(items, of) {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}

// An iteration in words, for a reader of the screen and for the tooltip.
export function describe(column) {
  const decodes = column.cells.filter((cell) => !cell.prefill).length;
  const prompts = column.cells.filter((cell) => cell.prefill);
  const parts = [`iteration ${column.batch}: ${count(decodes, "decode")}`];
  if (prompts.length) parts.push(`${count(prompts.length, "prompt chunk")} of ${count(column.prefill, "token")}`);
  if (column.waits.length) parts.push(`${column.waits.length} in slots without a token`);
  if (column.preempted.length) parts.push(`${column.preempted.length} preempted`);
  if (column.waiting) parts.push(`${column.waiting} waiting (${column.others})`);
  return `${parts.join(", ")}; ${(1000 * column.seconds).toFixed(1)} ms`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
