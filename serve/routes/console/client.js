// Requests to the service that gave this page, with the key that this browser tab holds.

const KEY = "penchant.key";

/** How long an answer is waited for; the service itself gives up long before. */
const TIMEOUT_MS = 30_000;

/** The API key of this tab; an empty text where there is none. */
export const readKey = () => sessionStorage.getItem(KEY) ?? "";

/** Keeps the key until the tab is closed; nowhere else. */
export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Why there is no answer. */
export class TroubleError extends Error {
  /**
   * @param {number} status HTTP status; 0 where the service cannot be reached.
   * @param {string} message
   * @param {{place: string, problem: string}[]} problems fields that are not as expected.
   * @param {string|null} requestId
   */
  constructor(status, message, problems = [], requestId = null) {
    super(message);
    this.status = status;
    this.problems = problems;
    this.requestId = requestId;
  }
}

/**
 * Asks the service.
 * @param {string} method
 * @param {string} path without a slash at its start, so that the page works below a prefix too.
 * @param {object} [body] sent as JSON.
 * @param {{signal?: AbortSignal, timeoutMs?: number}} [options]
 * @returns {Promise<{answer: any, latencyMs: number}>} measured here, until the last byte is read.
 * @throws {TroubleError}
 */
export async function request(method, path, body, {signal, timeoutMs = TIMEOUT_MS} = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (readKey()) headers.Authorization = `Bearer ${readKey()}`;
  const limit = AbortSignal.timeout(timeoutMs);
  const began = performance.now();
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      cache: "no-store",
      redirect: "error",
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    const why = error.name === "TimeoutError" ? "took too long" : "cannot be reached";
    throw new TroubleError(0, `The service ${why}.`);
  }
  const latencyMs = performance.now() - began;
  const answer = parsed(text);
  if (!response.ok) throw troubleOf(response, answer);
  if (answer === null) throw new TroubleError(response.status, "The answer is no JSON.");
  return {answer, latencyMs};
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function troubleOf(response, answer) {
  const {status} = response;
  const told = typeof answer?.error === "string" ? answer.error : "";
  const problems = Array.isArray(answer?.problems) ? answer.problems : [];
  const wait = response.headers.get("Retry-After");
  const again = wait && /^\d+$/.test(wait) ? ` Try again in ${wait} s.` : "";
  const message = `${IN_WORDS[status] ?? `The service answered with status ${status}`}${
    told ? `: ${told}` : ""
  }.${again}`;
  return new TroubleError(status, message, problems, answer?.request_id ?? null);
}

const IN_WORDS = {
  401: "The service wants a valid API key",
  403: "This API key may not ask this",
  413: "The question is too large",
  422: "The service refused the question",
  429: "Too many questions",
  503: "The service is not ready",
};

/**
 * The same question as a command for a shell. The key stays out of it: the command takes it from
 * the environment.
 */
export function asCurl(path, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const lines = [`curl ${quoted(new URL(path, document.baseURI).href)}`];
  if (readKey()) lines.push(`-H "Authorization: Bearer $PENCHANT_API_KEY"`);
  lines.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}
