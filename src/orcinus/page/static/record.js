// Recorded runs (`--record`): lines of JSON, made into the events that a live server sends.

export class RecordError extends Error {}

const MOST_BYTES = 512 * 2 ** 20;

// { engine, events, requests, cut } of a record's text. Throws RecordError if it is none.
export function parseRecord(text) {
  if (text.length > MOST_BYTES) throw new RecordError("this file is larger than 512 MiB");
  const lines = text.split("\n").filter((line) => line.trim());
  const engine = parseLine(lines[0] ?? "", 1);
  if (engine === null || engine.kind !== "engine") {
    throw new RecordError("this is neither a recorded run (its first line does not describe an engine) nor a result of orcinus bench");
  }
  if (![1, 2].includes(engine.version)) throw new RecordError(`this record has version ${engine.version}; this page reads 1 and 2`);
  const reader = new Reader(engine);
  let cut = false;
  for (let at = 1; at < lines.length; at++) {
    const line = parseLine(lines[at], at + 1);
    if (line === null) {
      if (at < lines.length - 1) throw new RecordError(`line ${at + 1} is not JSON`);
      cut = true; // a run that was killed while it wrote
      break;
    }
    reader.take(line, at + 1);
  }
  if (!reader.events.length) throw new RecordError("this record has no iteration");
  return { engine, events: reader.events, requests: reader.requests, cut };
}

function parseLine(line) {
  try {
    const found = JSON.parse(line);
    return typeof found === "object" && found !== null ? found : null;
  } catch {
    return null;
  }
}

class Reader {
  constructor(engine) {
    this.engine = engine;
    this.events = [];
    this.requests = new Map(); // id -> { arrival, prompt, first, last, finished, reason }
    this.launched = new Map(); // batch -> launch line
    this.removed = [];
    this.policy = engine.policy;
    this.lastReturn = -Infinity;
  }

  take(line, number) {
    try {
      this[`on_${line.kind}`]?.(line);
    } catch (error) {
      if (error instanceof RecordError) throw error;
      throw new RecordError(`line ${number} lacks something that a line of the kind ${String(line.kind).slice(0, 20)} has`);
    }
  }

  on_submit(line) {
    this.requests.set(line.id, { arrival: line.at, prompt: line.prompt.length, made: 0 });
  }

  on_use(line) {
    this.policy = line.policy;
    this.engine.limits = { ...this.engine.limits, ...line.limits };
  }

  on_finish(line) {
    this.removed.push(line.id);
    const request = this.requests.get(line.id);
    if (request) Object.assign(request, { finished: line.at, reason: line.reason });
  }

  on_launch(line) {
    this.launched.set(line.batch, { ...line, removed: this.removed, left: line.removed ?? [], policy: this.policy });
    this.removed = [];
  }

  on_return(line) {
    const launch = this.launched.get(line.batch);
    if (!launch) return;
    this.launched.delete(line.batch);
    const ttft = {};
    const tbt = {};
    const chunks = launch.chunks.map(([id, start, tokens], row) => {
      const request = this.requests.get(id);
      for (let made = 0; request && made < (line.tokens[row]?.length ?? 0); made++) {
        if (request.made === 0) ttft[id] = line.at - request.arrival;
        else (tbt[id] ??= []).push(line.at - request.last);
        request.first ??= line.at;
        request.last = line.at;
        request.made += 1;
      }
      return { id, start, tokens, prefill: start < (request?.prompt ?? 0) };
    });
    this.events.push({
      replica: 0,
      policy: launch.policy,
      blocks: launch.blocks,
      left: launch.left,
      batch: line.batch,
      at: launch.at,
      seconds: line.at - Math.max(launch.at, this.lastReturn),
      budget: this.engine.limits.max_batch_tokens,
      chunks,
      ttft,
      tbt,
      removed: launch.removed,
      waiting: launch.waiting,
      running: launch.running,
      free_blocks: launch.free_blocks,
      reasons: launch.why ?? {},
      others: launch.others ?? "",
    });
    this.lastReturn = line.at;
  }
}
