// The history as text: JSON or lines of `item,time[,type[,value]]`, read and written.

const LINE_FIELDS = ["item", "time", "type", "value"];
const HEADING = /^item\s*,\s*time\b/i;

/**
 * Reads what stands in the editor. Only what the service could not be asked is a problem here; what
 * an event must be, the service says.
 * @param {string} text
 * @returns {{events: object[], spans: [number, number][], problems: {at: number|null, problem:
 *   string}[], json: boolean}} `spans`: where in the text each event begins and ends; `at`: the
 *   place of the event that is meant, counted from 0.
 */
export function readHistory(text) {
  return /^\s*[[{]/.test(text) ? readJson(text) : readLines(text);
}

function readJson(text) {
  let events;
  try {
    events = JSON.parse(text);
  } catch (error) {
    return {events: [], spans: [], json: true, problems: [{at: null, problem: error.message}]};
  }
  if (!Array.isArray(events)) {
    const problem = "expected an array of events: [{\"item\": …, \"time\": …}, …]";
    return {events: [], spans: [], json: true, problems: [{at: null, problem}]};
  }
  const problems = events.flatMap((event, at) =>
    event !== null && typeof event === "object" && !Array.isArray(event)
      ? []
      : [{at, problem: "expected an object with item and time"}],
  );
  return {events, spans: elementSpans(text), problems, json: true};
}

/** Where the elements of a JSON array begin and end. The text is known to be valid JSON. */
function elementSpans(text) {
  const spans = [];
  let depth = 0;
  let begin = null;
  for (const {0: token, index} of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},]|[^\s[\]{},"]+/g)) {
    const closes = token === "]" || token === "}";
    if (closes) depth -= 1;
    if (begin !== null && ((depth === 1 && token === ",") || depth === 0)) {
      spans.push(begin);
      begin = null;
    } else if (depth >= 1 && !(depth === 1 && token === ",")) {
      begin = [begin?.[0] ?? index, index + token.length];
    }
    if (token === "[" || token === "{") depth += 1;
  }
  return spans;
}

function readLines(text) {
  const read = {events: [], spans: [], problems: [], json: false};
  let begin = 0;
  for (const line of text.split("\n")) {
    const span = [begin, begin + line.length];
    begin += line.length + 1;
    if (line.trim() === "" || (read.events.length === 0 && HEADING.test(line))) continue;
    const {event, problem} = readLine(line);
    if (problem) read.problems.push({at: read.events.length, problem});
    read.events.push(event);
    read.spans.push(span);
  }
  return read;
}

function readLine(line) {
  const fields = [...line.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|$)/g)]
    .slice(0, -1) // the empty match at the end
    .map(([, inQuotes, plain]) => inQuotes?.replaceAll('""', '"') ?? plain);
  const event = {};
  LINE_FIELDS.forEach((name, at) => {
    if (fields[at]) event[name] = fields[at];
  });
  if (!event.item || !event.time) return {event, problem: "expected item,time[,type[,value]]"};
  if (fields.length > LINE_FIELDS.length) {
    return {event, problem: "more than four fields; put an item with commas into \"quotes\""};
  }
  event.time = asMoment(event.time);
  if ("value" in event) {
    event.value = Number(event.value);
    if (!Number.isFinite(event.value)) return {event, problem: "expected a number as value"};
  }
  return {event};
}

/** Whole milliseconds as a number, all else as the text that it is; `20171201` is a date. */
export const asMoment = (text) => (/^-?\d{9,}$/.test(text) ? Number(text) : text);

/** Writes events: as lines where lines can hold them, else as JSON with an event a line. */
export function writeHistory(events, json = false) {
  const plain = (event) => Object.keys(event).every((name) => LINE_FIELDS.includes(name));
  if (!json && events.every(plain)) return events.map(writeLine).join("\n");
  const rows = events.map((event) => `  ${JSON.stringify({...event, time: readable(event.time)})}`);
  return rows.length ? `[\n${rows.join(",\n")}\n]` : "[]";
}

function writeLine(event) {
  const fields = [event.item, readable(event.time), event.type ?? "", event.value ?? ""];
  while (fields.at(-1) === "") fields.pop();
  return fields.map(quoted).join(",");
}

const quoted = (field) =>
  /[",]|^[\s[{]|\s$/.test(String(field)) ? `"${String(field).replaceAll('"', '""')}"` : field;

/** Milliseconds as ISO 8601 to the millisecond; text as it is. */
export function readable(time) {
  const date = new Date(typeof time === "number" ? time : NaN);
  return Number.isNaN(date.getTime()) ? time : date.toISOString().replace(".000Z", "Z");
}

/** Milliseconds of a moment in a body; UTC where no zone is given; NaN where it is none. */
export function millisecondsOf(time) {
  if (typeof time === "number") return time;
  if (typeof time !== "string") return NaN;
  const zoned = /Z$|[+-]\d\d:?(\d\d)?$/i.test(time) || !time.includes(":");
  return Date.parse(zoned ? time : `${time}Z`);
}
