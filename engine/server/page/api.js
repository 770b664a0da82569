// The server: JSON, streams, and its errors as exceptions. The key lives here and nowhere else.

let key = "";

export const base = new URL("../v1", import.meta.url).href;
export const hasKey = () => key !== "";
export const setKey = (given) => void (key = given.trim());

// An error of the server: its message, the field it is about, its HTTP status.
export class ServerError extends Error {
  constructor(body, status) {
    const error = body?.error ?? body;
    super(sentence(typeof error === "string" ? error : error?.message ?? `the server answered with ${status}`));
    this.param = error?.param?.replace(/^(body|query|path)\./, "") ?? null;
    this.status = status;
  }
}

// The server's framework reports a wrong parameter as a listing; this takes its sentence out.
function sentence(message) {
  return message.match(/'msg': (['"])(.*?)\1, 'input'/)?.[2] ?? message;
}

async function ask(path, request = {}) {
  const headers = { ...(key && { Authorization: `Bearer ${key}` }), ...(request.body && { "Content-Type": "application/json" }) };
  let answer;
  try {
    answer = await fetch(base + path, { ...request, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError({ error: { message: "the server can't be reached" } }, 0);
  }
  if (!answer.ok) throw new ServerError(await answer.json().catch(() => null), answer.status);
  return answer;
}

export async function get(path, query = {}) {
  const text = new URLSearchParams(query).toString();
  return (await ask(path + (text && `?${text}`))).json();
}

// The chunks of a streamed chat completion.
export async function* stream(body, signal) {
  const request = { method: "POST", body: JSON.stringify({ ...body, stream: true }), signal };
  const answer = await ask("/chat/completions", request);
  for await (const line of lines(answer.body.pipeThrough(new TextDecoderStream()))) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const chunk = JSON.parse(line.slice(6));
    if (chunk.error) throw new ServerError(chunk, chunk.error.code);
    yield chunk;
  }
}

async function* lines(source) {
  const reader = source.getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const parts = (rest + (value ?? "")).split("\n");
    rest = done ? "" : parts.pop();
    yield* parts;
    if (done) return;
  }
}
