// Calls to the server of this page, and nothing else.

const SECONDS = 30;
const PHOTO_SECONDS = 180;

/** The server answered with an error: what was found, what was expected, what to do. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.found ?? `HTTP ${status}`);
    this.status = status;
    this.found = body?.found ?? "";
    this.expected = body?.expected ?? "";
    this.fix = body?.fix ?? "";
  }
}

/** The server could not be reached, or the connection broke. */
export class Torn extends Error {}

async function call(method, path, { body, headers = {}, seconds = SECONDS } = {}) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), seconds * 1000);
  let answer;
  let text;
  try {
    answer = await fetch(path, { method, body, headers, signal: stop.signal, credentials: "same-origin", cache: "no-store" });
    text = await answer.text();
  } catch (error) {
    throw new Torn(String(error));
  } finally {
    clearTimeout(timer);
  }
  let content = null;
  try {
    content = text ? JSON.parse(text) : {};
  } catch {
    if (answer.ok) throw new Torn("the answer is cut off");
  }
  if (!answer.ok) throw new Refused(answer.status, content);
  return content;
}

const json = (method, path, content, more = {}) =>
  call(method, path, { body: JSON.stringify(content ?? {}), headers: { "Content-Type": "application/json" }, ...more });

export const session = () => call("GET", "/api/session");
export const pair = (code) => json("POST", "/api/pair", { code });
export const qualityTable = () => call("GET", "/api/quality-table");
export const records = () => call("GET", "/api/records");
export const record = (id) => call("GET", `/api/records/${id}`);
export const create = () => json("POST", "/api/records", {});
export const override = (id, reason) => json("POST", `/api/records/${id}/override`, { reason });
export const annotate = (id, annotation) => json("PUT", `/api/records/${id}/annotation`, annotation);
export const classify = (id) => json("POST", `/api/records/${id}/classify`, {}, { seconds: PHOTO_SECONDS });
export const review = (id, content) => json("POST", `/api/records/${id}/review`, content);
export const seal = (id) => json("POST", `/api/records/${id}/seal`, {});
export const withdraw = (id) => json("POST", `/api/records/${id}/withdraw`, {});

/** Send a photo's bytes. `device` is {make, model, os, lens}. */
export function sendPhoto(id, blob, device) {
  // Header values are ASCII; JSON's own escapes carry the rest.
  const ascii = JSON.stringify(device).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return call("PUT", `/api/records/${id}/photo`, {
    body: blob,
    headers: { "Content-Type": blob.type || "application/octet-stream", "X-Device": ascii },
    seconds: PHOTO_SECONDS,
  });
}

/** The photo of a record, as the server keeps it. */
export async function photo(id) {
  let answer;
  try {
    answer = await fetch(`/api/records/${id}/photo`, { credentials: "same-origin", cache: "no-store" });
    if (answer.ok) return await answer.blob();
  } catch (error) {
    throw new Torn(String(error));
  }
  throw new Refused(answer.status, await answer.json().catch(() => null));
}
