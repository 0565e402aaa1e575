// The AI SDK with its providers: for servers like ours, for OpenAI's Responses API, and for Anthropic's Messages API.

import { Output, generateText, stepCountIs, streamText, tool } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";
import { braceBias, check, expect, leave, model as name, url } from "./report.mjs";

const plain = createOpenAICompatible({ name: "orcinus", baseURL: `${url}/v1`, supportsStructuredOutputs: true });
const counting = createOpenAICompatible({ name: "orcinus", baseURL: `${url}/v1`, includeUsage: true });
const unschooled = createOpenAICompatible({ name: "orcinus", baseURL: `${url}/v1` });
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "none" });
const asked = { prompt: "Hi", temperature: 0, maxOutputTokens: 24, seed: 1, stopSequences: ["zzz"], maxRetries: 0 };

await check("generateText", "chat", async () => {
  const found = await generateText({ model: plain(name), ...asked });
  expect(found.text, "no text");
  expect(["stop", "length"].includes(found.finishReason), `finishReason ${found.finishReason}`);
  expect(found.usage.outputTokens > 0, "no tokens were counted");
});

await check("generateText with a system message and a conversation", "chat", async () => {
  const messages = [
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello!" },
    { role: "user", content: [{ type: "text", text: "Tell me a story about a fox." }] },
  ];
  const found = await generateText({ model: plain(name), system: "Be brief.", messages, maxOutputTokens: 8, maxRetries: 0 });
  expect(found.text, "no text");
});

await check("generateText of a completion model", "", async () => {
  const found = await generateText({ model: plain.completionModel(name), ...asked });
  expect(typeof found.text === "string", "no text");
});

await check("streamText says what generateText says", "stream", async () => {
  const whole = await generateText({ model: plain(name), ...asked });
  for (const provider of [plain, counting]) {
    const stream = streamText({ model: provider(name), ...asked });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    expect(text === whole.text, `${JSON.stringify(text)} is not ${JSON.stringify(whole.text)}`);
    expect((await stream.finishReason) === whole.finishReason, "another finishReason");
  }
});

await check("streamText with usage counts as generateText does", "stream", async () => {
  const whole = await generateText({ model: plain(name), ...asked });
  const stream = streamText({ model: counting(name), ...asked });
  for await (const _ of stream.textStream);
  expect((await stream.usage).outputTokens === whole.usage.outputTokens, "another count");
});

await check("errors say what the server said", "chat", async () => {
  let said = "";
  try {
    await generateText({ model: plain(name), ...asked, temperature: 7 });
  } catch (error) {
    said = `${error.statusCode} ${error.message}`;
  }
  expect(said.startsWith("400") && said.includes("temperature"), `the error is ${said || "missing"}`);
});

await check("a stream that is left does no harm", "stream", async () => {
  const leaving = new AbortController();
  const stream = streamText({ model: plain(name), ...asked, maxOutputTokens: 500, abortSignal: leaving.signal, onError() {} });
  try {
    for await (const _ of stream.textStream) leaving.abort();
  } catch {}
  expect((await generateText({ model: plain(name), ...asked })).text, "no text");
});

const weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.enum(["Paris", "Rome"]) }),
  execute: async ({ city }) => `Sunny in ${city}.`,
});
const calling = { prompt: "Hi", tools: { weather }, temperature: 0, maxOutputTokens: 200, maxRetries: 0 };
const models = [
  ["openai-compatible", "tools", plain(name)],
  ["openai", "responses", openai(name)],
  ["anthropic", "messages", anthropic(name)],
];

for (const [provider, feature, model] of models) {
  await check(`${provider}: generateText and streamText say the same`, feature === "tools" ? "chat" : feature, async () => {
    const whole = await generateText({ model, prompt: "Hi", temperature: 0, maxOutputTokens: 24, maxRetries: 0 });
    const stream = streamText({ model, prompt: "Hi", temperature: 0, maxOutputTokens: 24, maxRetries: 0 });
    expect(whole.text, "no text");
    expect((await stream.text) === whole.text, "another text");
    expect((await stream.usage).outputTokens === whole.usage.outputTokens || feature === "tools", "another count");
  });

  await check(`${provider}: a tool is called in the first step, and its result read in the second`, feature, async () => {
    const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber ? "auto" : "required" });
    const found = await generateText({ model, ...calling, stopWhen: stepCountIs(2), prepareStep });
    expect(found.steps.length === 2, `${found.steps.length} steps`);
    expect(/^Sunny in (Paris|Rome)\.$/.test(found.steps[0].toolResults[0]?.output), JSON.stringify(found.steps[0].content));
  });

  await check(`${provider}: a streamed call has the input of the whole one`, feature, async () => {
    const named = { model, ...calling, toolChoice: { type: "tool", toolName: "weather" } };
    const whole = await generateText(named);
    const calls = await streamText(named).toolCalls;
    expect(JSON.stringify(calls[0].input) === JSON.stringify(whole.toolCalls[0].input), JSON.stringify(calls));
  });

  await check(`${provider}: an object of a schema`, feature === "tools" ? "json schema" : feature, async () => {
    const output = Output.object({ schema: z.object({ city: z.enum(["Paris", "Rome"]), sure: z.boolean() }) });
    const found = await generateText({ model, prompt: "Hi", output, temperature: 0, maxOutputTokens: 80, maxRetries: 0 });
    expect(["Paris", "Rome"].includes(found.output.city), found.text);
  });
}

await check("openai-compatible: an object without a schema", "json object", async () => {
  const providerOptions = { orcinus: { logit_bias: await braceBias() } };
  const fields = { model: unschooled(name), prompt: "Hi", temperature: 0, maxRetries: 0, providerOptions };
  const found = await generateText({ ...fields, output: Output.json() });
  expect(JSON.stringify(found.output) === "{}", found.text);
});

leave();
