// Results of `orcinus bench`: when each request of each side got its tokens.

import { RecordError } from "orcinus/record.js";
import { percentile } from "orcinus/run.js";

const MOST_SIDES = 24;

// The result in a text, or null if the text is something else. Throws RecordError if it is one that cannot be shown.
export function parseResult(text) {
  if (!text.trimStart().startsWith("{")) return null;
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return null; // a record has an object on each line
  }
  if (!Array.isArray(found?.sides)) return null;
  try {
    const { cores } = found.machine;
    const sides = found.sides.slice(0, MOST_SIDES).map((side) => readSide(side, cores)).filter((side) => side.requests.length);
    if (!sides.length) throw new RecordError("this result has no request that was answered");
    return { kind: found.kind, command: found.command.join(" "), when: found.when, commit: found.commit, sides };
  } catch (error) {
    if (error instanceof RecordError) throw error;
    throw new RecordError("this is no result of orcinus bench: a side lacks something that each one has");
  }
}

// A side by its repeat of median duration.
function readSide({ name, repeats }, cores) {
  const ordered = [...repeats].sort((one, other) => one.seconds - other.seconds);
  const repeat = ordered[Math.floor((ordered.length - 1) / 2)] ?? { requests: [], seconds: 0, problems: [] };
  const answered = repeat.requests.filter((one) => (one.outcome ?? "ok") === "ok" && one.times?.length);
  const requests = answered.sort((one, other) => one.sent - other.sent || one.number - other.number);
  const gaps = requests.flatMap(({ times }) => times.slice(1).map((time, at) => time - times[at]));
  return {
    name,
    requests,
    repeats: repeats.length,
    failed: repeat.requests.length - answered.length,
    doubts: [...(repeat.problems ?? []), ...(repeat.load > cores ? [`the machine was busy (load ${repeat.load.toFixed(1)} on ${cores} cores)`] : [])],
    seconds: repeat.seconds,
    ttft: percentile(requests.map((one) => one.times[0] - one.due), 0.5),
    ttft99: percentile(requests.map((one) => one.times[0] - one.due), 0.99),
    tbt99: percentile(gaps, 0.99),
    stall: percentile(gaps, 1),
  };
}
