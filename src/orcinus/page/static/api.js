// Calls to the server. A key lives in this module's memory and nowhere else.

let key = "";
let onKeyAsked = () => {};

export function setKey(value) {
  key = value;
}

export function whenKeyIsAsked(callback) {
  onKeyAsked = callback;
}

export class ApiError extends Error {
  constructor(status, message, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  if (response.ok) return response;
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // an error that is not ours, such as a gateway's
  }
  const error = new ApiError(response.status, told.message ?? `the server answered ${response.status}`, told.code);
  if (error.status === 401) onKeyAsked(error);
  throw error;
}

// The JSON answer of a call. Throws ApiError, or TypeError if there is no connection.
export async function call(path, options) {
  return (await send(path, options)).json();
}

// The server-sent events of a call, as { event, data } with the data parsed, until it ends.
export async function* events(path, options) {
  const response = await send(path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      for (const frame of frames) {
        const found = parseFrame(frame);
        if (found === "end") return;
        if (found) yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseFrame(frame) {
  let event = "message";
  let data = "";
  for (const line of frame.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data === "[DONE]") return "end";
  return data ? { event, data: JSON.parse(data) } : null;
}
