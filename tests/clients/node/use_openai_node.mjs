// openai for node: chats, streams, the runner of tools, parsed answers, responses, errors by class.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { braceBias, check, expect, leave, model, url } from "./report.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Hi" }];
const asked = { model, messages, temperature: 0 };
const Weather = z.object({ city: z.enum(["Paris", "Rome"]), days: z.union([z.literal(1), z.literal(2)]) });
const parameters = {
  type: "object",
  properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};

await check("models.list", "", async () => {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  expect(names.includes(model), names.join());
});

await check("a chat", "chat", async () => {
  const answer = await client.chat.completions.create(asked);
  expect(answer.choices[0].message.content, "no text");
  expect(answer.usage.completion_tokens > 0, "no tokens were counted");
});

await check("a stream says the same", "stream", async () => {
  const whole = await client.chat.completions.create(asked);
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  expect(text === whole.choices[0].message.content, `${text} is not the whole answer`);
  expect(usage.completion_tokens === whole.usage.completion_tokens, "another count");
});

await check("the stream helper gathers the message", "stream", async () => {
  const whole = await client.chat.completions.create(asked);
  const final = await client.chat.completions.stream(asked).finalContent();
  expect(final === whole.choices[0].message.content, `${final} is not the whole answer`);
});

await check("a required call, whole and streamed", "tools", async () => {
  const tool = { type: "function", function: { name: "weather", description: "The weather.", parameters } };
  const fields = { ...asked, tools: [tool], tool_choice: "required", parallel_tool_calls: false };
  const whole = await client.chat.completions.create(fields);
  const final = await client.chat.completions.stream(fields).finalChatCompletion();
  for (const answer of [whole, final]) {
    const [call] = answer.choices[0].message.tool_calls;
    expect(answer.choices[0].finish_reason === "tool_calls", answer.choices[0].finish_reason);
    expect(call.id && call.function.name === "weather", JSON.stringify(call));
    expect(["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city), call.function.arguments);
  }
});

await check("runTools calls the function and sends its result", "tools", async () => {
  const cities = [];
  const weather = {
    name: "weather",
    description: "The weather.",
    parameters,
    parse: JSON.parse,
    function: ({ city }) => (cities.push(city), "Sunny."),
  };
  const runner = client.chat.completions.runTools({
    ...asked,
    tools: [{ type: "function", function: weather }],
    tool_choice: { type: "function", function: { name: "weather" } },
  });
  await runner.done();
  expect(["Paris", "Rome"].includes(cities[0]), JSON.stringify(cities));
  expect(runner.messages.some((one) => one.role === "tool" && one.content === "Sunny."), "no result in the messages");
});

await check("parse gives an object of the schema", "json schema", async () => {
  const answer = await client.chat.completions.parse({ ...asked, response_format: zodResponseFormat(Weather, "weather") });
  Weather.parse(answer.choices[0].message.parsed);
});

await check("a JSON object", "json object", async () => {
  const fields = { ...asked, response_format: { type: "json_object" }, logit_bias: await braceBias() };
  const { message } = (await client.chat.completions.create(fields)).choices[0];
  expect(JSON.stringify(JSON.parse(message.content)) === "{}", message.content);
});

await check("a response, whole and streamed", "responses", async () => {
  const fields = { model, input: "Hi", temperature: 0 };
  const whole = await client.responses.create(fields);
  const final = await client.responses.stream(fields).finalResponse();
  expect(whole.output_text && whole.output_text === final.output_text, `${whole.output_text} / ${final.output_text}`);
});

await check("a response with a call, its result, and a parsed answer", "responses", async () => {
  const fields = { model, temperature: 0, store: false };
  const tools = [{ type: "function", name: "weather", parameters, strict: true }];
  const first = await client.responses.create({ ...fields, input: messages, tools, tool_choice: "required", parallel_tool_calls: false });
  const call = first.output.find((item) => item.type === "function_call");
  expect(["Paris", "Rome"].includes(JSON.parse(call.arguments).city), call.arguments);
  const input = [...messages, ...first.output, { type: "function_call_output", call_id: call.call_id, output: "Sunny." }];
  const second = await client.responses.parse({ ...fields, input, text: { format: zodTextFormat(Weather, "weather") } });
  Weather.parse(second.output_parsed);
});

await check("errors have the class of their status", "chat", async () => {
  let error;
  await client.chat.completions.create({ ...asked, temperature: 7 }).catch((found) => (error = found));
  expect(error instanceof OpenAI.BadRequestError && error.param === "temperature", `${error}`);
});

leave();
