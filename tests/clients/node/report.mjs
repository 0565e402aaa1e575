// How a script for node reports: as report.py does, a line per check with its feature, and a status that is not 0 if one failed.

export const url = process.env.ORCINUS_URL ?? "http://127.0.0.1:8000";
export const model = process.env.ORCINUS_MODEL ?? "orcinus-tiny";
let failures = 0;

export async function check(name, feature, body) {
  const line = feature ? `[${feature}] ${name}` : name;
  try {
    await body();
    console.log(`pass  ${line}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${line}: ${String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 300)}`);
  }
}

export function expect(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}

// The `logit_bias` with which an answer in JSON is `{}`: left alone, the bundled model may never close an object.
export async function braceBias() {
  const bias = {};
  for (const prompt of ["{", "}"]) {
    const body = JSON.stringify({ prompt, add_special_tokens: false });
    const response = await fetch(`${url}/tokenize`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
    bias[(await response.json()).tokens[0]] = 100;
  }
  return bias;
}

export function leave() {
  process.exit(failures ? 1 : 0);
}
