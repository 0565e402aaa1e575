// The connection to a server: its iterations, its state and its live requests. It connects again when it is lost.

import { ApiError, call, events } from "orcinus/api.js";
import { Run } from "orcinus/run.js";

const STATE_MS = 1000;
const REQUESTS_MS = 500;
const RETRY_MS = 1000;

export class Live {
  constructor() {
    this.run = new Run();
    this.status = "connecting"; // connecting | live | lost | refused
    this.trouble = ""; // what is wrong, in words
    this.state = null; // of GET /v1/scheduler
    this.requests = null; // of GET /v1/scheduler/requests
    this.model = null;
    this.runs = new Set([this.run]); // all that happens is added to each of them
    this.stopped = false;
  }

  start() {
    this.watch();
    this.poll("state", "/v1/scheduler", STATE_MS);
    this.poll("requests", "/v1/scheduler/requests", REQUESTS_MS);
    return this;
  }

  async watch() {
    while (!this.stopped) {
      try {
        this.model = (await call("/v1/models")).data[0];
        this.connection = new AbortController();
        const stream = events("/v1/scheduler/iterations", { signal: this.connection.signal });
        this.status = "live";
        this.trouble = "";
        for await (const { event, data } of stream) {
          for (const run of this.runs) {
            if (event === "message") run.add(data);
            if (event === "stages") run.addStages(data);
          }
        }
        this.lose("the server has closed the connection");
      } catch (error) {
        if (error instanceof ApiError && [401, 403].includes(error.status)) {
          this.status = "refused";
          this.trouble = error.message;
          await new Promise((resolve) => (this.again = resolve)); // with the same key it would be refused again
        } else {
          this.lose(error instanceof ApiError ? error.message : "the server cannot be reached");
        }
      }
      await sleep(RETRY_MS);
    }
  }

  lose(why) {
    this.status = "lost";
    this.trouble = why;
  }

  async poll(name, path, every) {
    while (!this.stopped) {
      if (this.status === "live" && !document.hidden) await this.refresh(name, path);
      await sleep(every);
    }
  }

  async refresh(name = "requests", path = "/v1/scheduler/requests") {
    try {
      this[name] = await call(path);
      if (name === "state") this.run.slots = this.state.limits.max_batch_size;
    } catch {
      // the watcher of iterations tells what is wrong
    }
  }

  // Switch policy, order, limits or slow motion. Throws ApiError.
  async use(change) {
    this.state = await call("/v1/scheduler", { method: "PUT", body: change });
  }

  async pause(paused) {
    await call(paused ? "/pause" : "/resume", { method: "POST" });
    await this.refresh("state", "/v1/scheduler");
  }

  async step(iterations = 1) {
    if (!this.state?.paused) await this.pause(true);
    await call("/v1/scheduler/step", { method: "POST", body: { iterations } });
    await sleep(60);
    await this.refresh();
  }

  // Connect anew, with another key.
  reconnect() {
    this.again?.();
    this.connection?.abort();
  }

  stop() {
    this.stopped = true;
    this.connection?.abort();
  }
}

export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
