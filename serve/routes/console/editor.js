// The editor of the history: its text, its count, its problems, and the row that adds an event.

import {byId, count, make, moment, say} from "./dom.js";
import {asMoment, millisecondsOf, readHistory, writeHistory} from "./history.js";

const MINUTE_MS = 60_000;
const FIELDS = {history: "history", k: "k", candidates: "candidates", time: "time",
  exclude_seen: "exclude-seen"};

/** What stands in the editor, read. */
export const currentHistory = () => readHistory(byId("history").value);

/** Puts events into the editor. `time`: the moment that will be asked about, where one is given. */
export function fillHistory(events, time) {
  byId("history").value = writeHistory(events);
  suggestTime(time);
  refresh();
}

/** Lets an added event have a time just before the one that is asked about, or before now. */
function suggestTime(time) {
  const until = millisecondsOf(time);
  const at = new Date((Number.isNaN(until) ? Date.now() : until) - MINUTE_MS);
  byId("add-time").value = at.toISOString().slice(0, 16);
}

/** Counts what stands in the editor and clears the problems that were told of it. */
export function refresh() {
  const {events, problems} = currentHistory();
  const items = new Set(events.map((event) => event?.item)).size;
  const times = events.map((event) => millisecondsOf(event?.time)).filter(Number.isFinite);
  let span = "";
  if (times.length) {
    const [first, last] = times.reduce(([a, b], t) => [Math.min(a, t), Math.max(b, t)],
      [times[0], times[0]]);
    span = first === last ? `, ${moment(first)}` : `, ${moment(first)} to ${moment(last)}`;
  }
  const known = `${count(events.length, "event")} of ${count(items, "item")}${span}.`;
  say(byId("history-count"), events.length ? known : "No events: a user of whom nothing is known.");
  showOwnProblems(problems);
}

/** Problems that can be seen before the service is asked. */
export function showOwnProblems(problems) {
  showProblems(problems.map(({at, problem}) => ({
    place: at === null ? "body.history" : `body.history.${at}`,
    problem,
  })));
}

/**
 * Lists problems beside the editor, as the service names them, and marks their fields.
 * @param {{place: string, problem: string}[]} problems such as those of a 422 answer.
 */
export function showProblems(problems) {
  for (const id of Object.values(FIELDS)) byId(id).removeAttribute("aria-invalid");
  byId("problems").replaceChildren(...problems.map(problemLine));
}

function problemLine({place, problem}) {
  const [, field, at, inner] = /^body\.(\w+)(?:\.(\d+))?(?:\.(.+))?$/.exec(place) ?? [];
  const id = FIELDS[field];
  if (!id) return make("li", {}, `${place}: ${problem}`);
  byId(id).setAttribute("aria-invalid", "true");
  const words = [placeName(field, at), inner].filter(Boolean).join(", ");
  const button = make("button", {type: "button"}, words);
  button.addEventListener("click", () => goTo(byId(id), field, at));
  return make("li", {}, button, `: ${problem}`);
}

const NAMES = {history: "History", k: "Items", candidates: "Candidates",
  time: "Moment asked about", exclude_seen: "Leave out items of the history"};

function placeName(field, at) {
  if (at === undefined) return NAMES[field];
  return `${field === "history" ? "Event" : "Candidate"} ${Number(at) + 1}`;
}

/** Puts the cursor where the problem is; an event or a candidate is selected. */
function goTo(element, field, at) {
  element.focus();
  if (at === undefined) return;
  const span = field === "history" ? currentHistory().spans[at] : lineSpan(element.value, at);
  if (!span) return;
  element.setSelectionRange(...span);
  const lineHeight = parseFloat(getComputedStyle(element).lineHeight);
  const above = element.value.slice(0, span[0]).split("\n").length - 2;
  element.scrollTop = Math.max(above, 0) * lineHeight;
}

function lineSpan(text, at) {
  const filled = [...text.matchAll(/^.*\S.*$/gm)][at];
  return filled && [filled.index, filled.index + filled[0].length];
}

/** Adds the event of the row below the editor. What stands above must be readable first. */
function addEvent() {
  const item = byId("add-item").value.trim();
  byId("add-item").toggleAttribute("aria-invalid", false);
  const {events, problems, json} = currentHistory();
  const value = byId("add-value").value.trim();
  if (problems.length || !item || (value && !Number.isFinite(Number(value)))) {
    const wrong = problems.length ? "history" : item ? "add-value" : "add-item";
    byId(wrong).setAttribute("aria-invalid", "true");
    byId(wrong).focus();
    return;
  }
  const time = byId("add-time").value;
  const event = {item, time: time ? `${time}Z` : new Date(Date.now() - MINUTE_MS).toISOString()};
  if (!byId("add-type-field").hidden) event.type = byId("add-type").value;
  if (value) event.value = Number(value);
  byId("history").value = writeHistory([...events, event], json && events.length > 0);
  for (const id of ["add-item", "add-value"]) byId(id).value = "";
  refresh();
  byId("add-item").focus();
}

/** Types that an added event may have; nothing is asked where there is only one. */
export function offerTypes(types) {
  byId("add-type").replaceChildren(...types.map((type) => make("option", {value: type}, type)));
  byId("add-type-field").hidden = types.length < 2;
}

/** Makes the editor answer to its user. */
export function startEditor() {
  byId("history").addEventListener("input", refresh);
  byId("add-event").addEventListener("click", addEvent);
  byId("add").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault(); // it would ask
    addEvent();
  });
  for (const id of ["add-item", "add-value", "k", "candidates", "time", "exclude-seen"]) {
    byId(id).addEventListener("input", () => byId(id).removeAttribute("aria-invalid"));
  }
  byId("time").addEventListener("change", () => suggestTime(asMoment(byId("time").value.trim())));
  suggestTime();
  refresh();
}
