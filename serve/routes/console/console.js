// The page: what it knows, what it asks, and when.

import {hideExplanation, showExplanation, showExplanationNote} from "./explanation.js";
import {TroubleError, asCurl, keepKey, readKey, request} from "./client.js";
import {byId, make, say} from "./dom.js";
import {currentHistory, fillHistory, offerTypes, showOwnProblems, showProblems, startEditor}
  from "./editor.js";
import {asMoment, readable} from "./history.js";
import {leftOut, showAnswer, showMembers} from "./answer.js";
import {showCard, showHead, showNoCard} from "./ensemble.js";
import {watchHealth} from "./health.js";

let card = null; // of /v1/ensemble
let refusedKey = null; // the key with which the card was refused, so that it is not asked for again
let missing = ""; // members that the last answer had to do without
let asking = null; // AbortController of the question under way
let explaining = null; // of the explanation under way

/** Takes the card of what is served. Says why where that fails, and throws. */
async function loadCard() {
  const key = readKey();
  try {
    const {answer} = await request("GET", "v1/ensemble");
    card = answer;
    refusedKey = null;
  } catch (error) {
    card = null;
    if (error.status === 401 || error.status === 403) refusedKey = key;
    showNoCard(error.message);
    tellKey(error);
    throw error;
  }
  tellKey(null);
  showHead(card, card);
  showCard(card);
  offerTypes(card.types);
  for (const part of document.querySelectorAll("[data-task]")) {
    part.hidden = part.dataset.task !== card.task;
  }
  byId("exclude-seen").querySelector("[value=false]").disabled = card.exclude_seen;
}

/** Says at the key's field that it is refused, and goes there; clears it otherwise. */
function tellKey(error) {
  const refused = error?.status === 401;
  const wanted = readKey() ? "This key is not accepted." : "The service wants an API key.";
  say(byId("key-trouble"), refused ? `${wanted} (401)` : "");
  if (!refused) byId("key").removeAttribute("aria-invalid");
  else {
    byId("key").setAttribute("aria-invalid", "true");
    byId("key").focus();
  }
}

/** The question in the form, as a path and a body. */
function question(events) {
  const body = {history: events};
  const time = byId("time").value.trim();
  if (time) body.time = asMoment(time);
  body.members = true;
  if (card?.task === "binary") {
    const lines = byId("candidates").value.split("\n").map((line) => line.trim());
    return ["v1/score", {...body, candidates: lines.filter(Boolean)}];
  }
  const k = Number(byId("k").value);
  const seen = byId("exclude-seen").value;
  return ["v1/recommend", {...body, k, ...(seen ? {exclude_seen: seen === "true"} : {})}];
}

/** The question, or null where the history cannot be read; then that is said. */
function readQuestion() {
  const {events, problems} = currentHistory();
  showOwnProblems(problems);
  if (!problems.length) return question(events);
  byId("history").focus();
  return null;
}

async function ask() {
  if (!readQuestion()) return;
  asking?.abort();
  asking = new AbortController();
  const {signal} = asking;
  setBusy(true);
  closeExplanation();
  try {
    if (!card) await loadCard();
    const [path, body] = readQuestion();
    const {answer, latencyMs} = await request("POST", path, body, {signal});
    missing = answer.degraded ? leftOut(answer) : "";
    showAnswer(answer, latencyMs, (result, row) => explain(result, row, body, answer));
    showTrouble(null);
  } catch (error) {
    if (signal.aborted) return; // a later question took its place
    setBusy(false);
    clearAnswer();
    showTrouble(error);
  }
  setBusy(false);
  retellHealth();
}

function setBusy(busy) {
  byId("answer").setAttribute("aria-busy", String(busy));
  byId("ask").setAttribute("aria-disabled", String(busy));
  if (busy) say(byId("answer-status"), "Asking…");
}

function clearAnswer() {
  missing = "";
  say(byId("answer-status"), "No answer.");
  byId("results").replaceChildren();
  byId("degraded").hidden = byId("members-switch").hidden = true;
}

function showTrouble(error) {
  if (error !== null && !(error instanceof TroubleError)) throw error;
  showProblems(error?.problems ?? []);
  const id = error?.requestId ? ` Request ${error.requestId}.` : "";
  const where = error?.problems.length ? " What is wrong stands below the history." : "";
  say(byId("answer-trouble"), error ? `${error.message}${where}${id}` : "");
  tellKey(error);
  if (error?.problems.length) byId("problems").scrollIntoView({block: "nearest"});
}

async function explain(result, row, body, asked) {
  explaining?.abort();
  explaining = new AbortController();
  const {signal} = explaining;
  const title = result.text || result.item;
  markRow(row);
  showExplanationNote(title, "Asking the members…", closeExplanation);
  const {history} = body;
  const why = {history, time: asked.time_ms, candidates: [result.item]};
  try {
    const {answer} = await request("POST", "v1/explain", why, {signal});
    showExplanation(answer, closeExplanation);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof TroubleError)) throw error;
    const told = error.problems.map(({place, problem}) => ` ${place}: ${problem}.`).join("");
    showExplanationNote(title, `${error.message}${told}`, closeExplanation, true);
    tellKey(error);
  }
  const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("explanation").scrollIntoView({block: "nearest", behavior: smooth ? "smooth" : "instant"});
}

function markRow(row) {
  for (const other of byId("results").querySelectorAll("tr.can-explain")) {
    other.classList.toggle("explained", other === row);
    other.querySelector("button").setAttribute("aria-pressed", String(other === row));
  }
}

function closeExplanation() {
  explaining?.abort();
  const marked = byId("results").querySelector("tr.explained button");
  const inside = byId("explanation").contains(document.activeElement);
  hideExplanation();
  markRow(null);
  if (inside) marked?.focus();
}

async function copyCurl() {
  const asked = readQuestion();
  if (!asked) return;
  const command = asCurl(...asked);
  byId("curl").value = command;
  byId("curl").hidden = false;
  const key = readKey() ? " Set PENCHANT_API_KEY to the key first." : "";
  try {
    await navigator.clipboard.writeText(command); // there only on https and on this machine
    say(byId("copy-note"), `Copied.${key}`);
  } catch {
    byId("curl").select();
    say(byId("copy-note"), `Copy it from below.${key}`);
  }
}

async function loadExamples() {
  const {answer} = await request("GET", "console/examples.json").catch(() => ({answer: []}));
  byId("example-field").hidden = answer.length === 0;
  const options = answer.map(({title}, at) => make("option", {value: at}, title));
  const [first] = byId("example").options;
  byId("example").replaceChildren(first, ...options);
  byId("example").onchange = () => {
    const chosen = answer[byId("example").value];
    if (!chosen) return;
    const {history, time, candidates} = chosen.body;
    byId("time").value = time === undefined ? "" : readable(time);
    byId("candidates").value = (candidates ?? []).join("\n");
    fillHistory(history, time);
  };
}

function start() {
  startEditor();
  byId("key").value = readKey();
  byId("key").addEventListener("change", () => {
    keepKey(byId("key").value.trim());
    loadCard().then(() => showTrouble(null), () => {});
    loadExamples();
  });
  byId("question").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  byId("copy").addEventListener("click", copyCurl);
  byId("show-members").addEventListener("change", (event) => showMembers(event.target.checked));
  loadExamples();
  loadCard().catch(() => {});
}

const retellHealth = watchHealth(() => missing, ({name, version}) => {
  if (!card) showHead({name, version}, null);
  const stale = card?.version !== version || card?.name !== name;
  if (stale && refusedKey !== readKey()) loadCard().catch(() => {});
});
start();
