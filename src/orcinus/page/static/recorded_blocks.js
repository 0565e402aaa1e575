// The K/V blocks of a recorded run at any iteration: a sum of what each iteration gave and took.

export class RecordedBlocks {
  constructor(events, blockSize) {
    this.events = events;
    this.blockSize = blockSize;
    this.known = events.some((event) => event.blocks); // older records do not tell
    this.rewind();
  }

  rewind() {
    this.at = 0;
    this.tables = new Map(); // request -> blocks
    this.computed = new Map(); // request -> tokens
  }

  // The requests that hold blocks after so many iterations, in the form of `BlockMap`.
  after(iterations) {
    if (iterations < this.at) this.rewind();
    for (; this.at < iterations; this.at++) this.take(this.events[this.at]);
    return [...this.tables].map(([id, blocks]) => ({ id, blocks, filled_blocks: this.filled(id) }));
  }

  take(event) {
    for (const id of [...event.left, ...event.removed]) this.tables.delete(id);
    for (const [id, blocks] of Object.entries(event.blocks ?? {})) {
      if (!this.tables.has(id)) this.tables.set(id, []);
      this.tables.get(id).push(...blocks);
    }
    for (const { id, start, tokens } of event.chunks) this.computed.set(id, start + tokens);
  }

  filled(id) {
    return Math.ceil((this.computed.get(id) ?? 0) / this.blockSize);
  }
}
