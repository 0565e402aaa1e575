// Requests to try a scheduler with: short and long prompts, short and long answers, the same ones for the same seed.

import { call } from "orcinus/api.js";
import { count } from "orcinus/run.js";

const WORDS = "how does a server share its memory between many requests when some ask for much and others for little".split(" ");

// A small generator of random numbers in [0, 1) (mulberry32).
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// `count` requests: most short, every fourth with a long prompt. Arrivals are in seconds, at `rate` a second (0 = all at once).
export function makeRequests({ count, rate, longPrompt, seed }) {
  const draw = random(seed);
  let at = 0;
  return Array.from({ length: count }, (_, index) => {
    if (rate > 0) at += -Math.log(1 - draw()) / rate;
    const words = index % 4 === 3 ? longPrompt : 4 + Math.floor(draw() * 24);
    const prompt = Array.from({ length: words }, () => WORDS[Math.floor(draw() * WORDS.length)]).join(" ");
    return { at, prompt, max_tokens: 8 + Math.floor(draw() * 56) };
  });
}

// Have the server send the requests (a browser has too few connections) and wait for all answers. Throws ApiError.
// With an SLO ({ ttft, tbt } in seconds) some may be refused. Returns the server's counts.
export async function sendAll(requests, { signal, salt, slo } = {}) {
  const body = { requests, ...(salt ? { cache_salt: salt } : {}), ...(slo ? { slo } : {}) };
  const found = await call("/v1/scheduler/load", { method: "POST", body, signal });
  if (found.failed) throw new Error(`${count(found.failed, "request")} failed: ${found.error}`);
  return found;
}
