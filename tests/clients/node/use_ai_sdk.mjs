// The AI SDK with its provider for servers like ours: generateText and streamText.

import { generateText, streamText } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const url = process.env.ORCINUS_URL ?? "http://127.0.0.1:8000";
const name = process.env.ORCINUS_MODEL ?? "orcinus-tiny";
const plain = createOpenAICompatible({ name: "orcinus", baseURL: `${url}/v1` });
const counting = createOpenAICompatible({ name: "orcinus", baseURL: `${url}/v1`, includeUsage: true });
let failures = 0;

async function check(name, body) {
  try {
    await body();
    console.log(`pass  ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`FAIL  ${name}: ${String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 300)}`);
  }
}

function expect(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}

const asked = { prompt: "Hi", temperature: 0, maxOutputTokens: 24, seed: 1, stopSequences: ["zzz"], maxRetries: 0 };

await check("generateText", async () => {
  const found = await generateText({ model: plain(name), ...asked });
  expect(found.text, "no text");
  expect(["stop", "length"].includes(found.finishReason), `finishReason ${found.finishReason}`);
  expect(found.usage.outputTokens > 0, "no tokens were counted");
});

await check("generateText with a system message and a conversation", async () => {
  const messages = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello!" },
    { role: "user", content: [{ type: "text", text: "Tell me a story about a fox." }] },
  ];
  const found = await generateText({ model: plain(name), system: "Be brief.", messages, maxOutputTokens: 8, maxRetries: 0 });
  expect(found.text, "no text");
});

await check("generateText of a completion model", async () => {
  const found = await generateText({ model: plain.completionModel(name), ...asked });
  expect(typeof found.text === "string", "no text");
});

await check("streamText says what generateText says", async () => {
  const whole = await generateText({ model: plain(name), ...asked });
  for (const provider of [plain, counting]) {
    const stream = streamText({ model: provider(name), ...asked });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    expect(text === whole.text, `${JSON.stringify(text)} is not ${JSON.stringify(whole.text)}`);
    expect((await stream.finishReason) === whole.finishReason, "another finishReason");
  }
});

await check("streamText with usage counts as generateText does", async () => {
  const whole = await generateText({ model: plain(name), ...asked });
  const stream = streamText({ model: counting(name), ...asked });
  for await (const _ of stream.textStream);
  expect((await stream.usage).outputTokens === whole.usage.outputTokens, "another count");
});

await check("errors say what the server said", async () => {
  let said = "";
  try {
    await generateText({ model: plain(name), ...asked, temperature: 7 });
  } catch (error) {
    said = `${error.statusCode} ${error.message}`;
  }
  expect(said.startsWith("400") && said.includes("temperature"), `the error is ${said || "missing"}`);
});

await check("a stream that is left does no harm", async () => {
  const leaving = new AbortController();
  const stream = streamText({ model: plain(name), ...asked, maxOutputTokens: 500, abortSignal: leaving.signal, onError() {} });
  try {
    for await (const _ of stream.textStream) leaving.abort();
  } catch {}
  expect((await generateText({ model: plain(name), ...asked })).text, "no text");
});

process.exit(failures ? 1 : 0);
