// A run, as the sum of its iterations: the same for a live server and for a recorded file.

import { Pipeline } from "orcinus/pipeline.js";

const LATENCIES = 2000; // newest latencies kept for percentiles
const STATIC = ["request-level", "fastertransformer"]; // policies whose batches run to their ends

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
    this.batch = new Set(); // slots of the static batch that runs
    this.returned = -Infinity; // when the last iteration ended
    this.pipeline = new Pipeline();
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
    const gap = this.columns.length > 0 && event.batch !== this.last.batch + 1;
    if (gap) this.forgetUnseen(event);
    if (this.slots.size === 0) this.batch.clear();
    const cells = event.chunks.map((chunk) => ({ ...chunk, slot: this.slotOf(chunk.id) }));
    let busy = cells.length;
    const served = new Set(event.chunks.map((chunk) => chunk.id));
    const inFlight = this.inFlight(event.at); // in batches of other pipeline stages
    const waits = [];
    for (const [id, slot] of this.slots) {
      if (served.has(id)) continue;
      const before = inFlight.get(id);
      waits.push({ id, slot, reason: before === undefined ? (event.reasons[id] ?? "not chosen") : `in the pipeline with iteration ${before}`, flies: before !== undefined });
      if (before !== undefined) busy += 1;
    }
    const padding = this.padding(event, cells);
    const prefill = sum(cells, (cell) => (cell.prefill ? cell.tokens : 0));
    const tokens = sum(cells, (cell) => cell.tokens);
    this.returned = Math.max(this.returned, event.at) + event.seconds;
    const place = { number: this.first + this.columns.length, returned: this.returned, gap };
    const column = { ...event, ...place, cells, waits, preempted, padding, prefill, tokens };
    this.idle += Math.max(0, Math.min(slots, event.running + event.waiting) - busy);
    this.used += cells.length;
    this.columns.push(column);
    if (this.columns.length > 2 * this.most) {
      this.first += this.columns.length - this.most;
      this.columns = this.columns.slice(-this.most);
    }
    return column;
  }

  // Requests of iterations that had not returned at a time, with those iterations.
  inFlight(at) {
    const found = new Map();
    for (let place = this.columns.length - 1; place >= 0 && this.columns[place].returned > at + 1e-6; place--) {
      for (const { id } of this.columns[place].cells) found.set(id, this.columns[place].batch);
    }
    return found;
  }

  // Requests may have ended while their iterations were not seen: those that the next one does not name leave their slots.
  forgetUnseen(event) {
    const named = new Set([...event.chunks.map((chunk) => chunk.id), ...Object.keys(event.reasons)]);
    for (const id of [...this.slots.keys()]) if (!named.has(id)) this.leave(id);
  }

  // Slots that a static batch keeps although their requests have ended.
  padding(event, cells) {
    if (!STATIC.includes((event.policy ?? "").split(":")[0])) return [];
    for (const { slot } of cells) this.batch.add(slot);
    const held = new Set(this.slots.values());
    return [...this.batch].filter((slot) => !held.has(slot));
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
  // `most`: iterations kept of each engine; `tokenTimes`: whether to keep when each request got its tokens.
  constructor({ most = 5000, tokenTimes = false } = {}) {
    this.most = most;
    this.times = tokenTimes ? new Map() : null; // request -> { number, due, times }, as in a result of a benchmark
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
    const lane = this.lane(event.replica);
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
    const column = lane.add(event, this.slots);
    if (this.times) this.noteTimes(event, column.returned);
    return column;
  }

  // Add when pipeline stages of an engine ran which batches: a `stages` event.
  addStages({ replica, runs }) {
    this.lane(replica).pipeline.add(runs);
  }

  lane(replica) {
    let lane = this.lanes.get(replica);
    if (!lane) {
      lane = new Lane(replica, this.most);
      this.lanes.set(replica, lane);
      this.lanes = new Map([...this.lanes].sort(([a], [b]) => a - b));
    }
    return lane;
  }

  noteTimes({ ttft, tbt }, now) {
    for (const [id, seconds] of Object.entries(ttft)) {
      this.times.set(id, { id, number: this.times.size, due: now - seconds, times: [now] });
    }
    for (const [id, gaps] of Object.entries(tbt)) {
      const times = this.times.get(id)?.times;
      for (const seconds of times ? gaps : []) times.push(times.at(-1) + seconds);
    }
  }
}

// Requests of a run in the form of `timeline.js`: on a scale that begins with the first arrival.
export function timelineOf(run) {
  const found = [...run.times.values()].sort((one, other) => one.due - other.due);
  const begin = found.length ? found[0].due : 0;
  return found.map((one) => ({ ...one, due: one.due - begin, times: one.times.map((time) => time - begin) }));
}

function keep(list, values) {
  list.push(...values);
  if (list.length > 2 * LATENCIES) list.splice(0, list.length - LATENCIES);
}

// Tokens that an iteration generated.
export function tokensOf({ ttft, tbt }) {
  return Object.keys(ttft).length + sum(Object.values(tbt), (gaps) => gaps.length);
}

// The longest time to a first token that an iteration brought, in milliseconds; null without one.
export function longestWait({ ttft }) {
  const seconds = Object.values(ttft);
  return seconds.length ? 1000 * Math.max(...seconds) : null;
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
  const flying = column.waits.filter((wait) => wait.flies).length;
  if (flying) parts.push(`${flying} in other iterations of the pipeline`);
  if (column.waits.length > flying) parts.push(`${column.waits.length - flying} in slots without a token`);
  if (column.padding.length) parts.push(`${count(column.padding.length, "slot")} kept by a static batch`);
  if (column.preempted.length) parts.push(`${column.preempted.length} preempted`);
  if (column.waiting) parts.push(`${column.waiting} waiting (${column.others})`);
  return `${parts.join(", ")}; ${(1000 * column.seconds).toFixed(1)} ms`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
