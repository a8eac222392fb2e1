// The answer: ranked items with their scores, and each member's own scores beside them.

import {bar, byId, count, figures, make, moment, percent, say, scaleOf, tableBox} from "./dom.js";

const WHY_LEFT_OUT = {
  deadline: "it was too slow",
  failed: "it failed",
  overloaded: "it has too much to do",
  down: "it is down",
};

/** `two (it failed), three (it was too slow)`. */
export const leftOut = (answer) =>
  answer.left_out
    .map(({member, reason}) => `${member} (${WHY_LEFT_OUT[reason] ?? reason})`)
    .join(", ");

/**
 * Shows an answer.
 * @param {object} answer of /v1/recommend or /v1/score.
 * @param {number} latencyMs as this browser measured it.
 * @param {(result: object, row: HTMLElement) => void} explain called when somebody asks why.
 */
export function showAnswer(answer, latencyMs, explain) {
  const ranked = [...answer.results].sort((one, other) => order(other) - order(one));
  const members = memberNames(ranked);
  say(byId("answer-status"), summary(answer, latencyMs));
  showDegraded(answer);
  byId("members-switch").hidden = members.length === 0;
  byId("results").replaceChildren(
    ranked.length ? resultTable(ranked, members, explain) : make("p", {}, "No item is left."),
  );
  showMembers(byId("show-members").checked);
}

/** Shows or hides the columns of the members. */
export function showMembers(shown) {
  for (const cell of byId("results").querySelectorAll("[data-member]")) cell.hidden = !shown;
}

function showDegraded(answer) {
  const banner = byId("degraded");
  banner.hidden = !answer.degraded;
  const text = `Degraded: made without ${leftOut(answer)}. The others’ weights were scaled up.`;
  say(banner, answer.degraded ? text : "");
}

function summary(answer, latencyMs) {
  const used = answer.used_events
    ? `from ${count(answer.used_events, "event")}`
    : "from no event that the ensemble knows (a cold start)";
  const ignored = answer.ignored_events
    ? `, ${count(answer.ignored_events, "event")} ignored since the item is unknown`
    : "";
  const asked = `as of ${moment(answer.time_ms)} UTC`;
  const took = `${latencyMs.toFixed(latencyMs < 10 ? 1 : 0)} ms as measured here`;
  const made = `${count(answer.results.length, "item")} ${used}${ignored}, ${asked}, in ${took}.`;
  return `${made} Version ${answer.version}, request ${answer.request_id}.`;
}

const order = (result) => result.score ?? -Infinity;

function memberNames(results) {
  return [...new Set(results.flatMap((result) => Object.keys(result.members ?? {})))];
}

function resultTable(ranked, members, explain) {
  const scores = ranked.map((result) => result.score);
  const [scale, figure] = [scaleOf(scores), figures(scores)];
  const likely = ranked.some((result) => result.probability !== undefined);
  const own = members.map((name) => memberCells(ranked.map((result) => result.members?.[name])));
  const columns = [
    ["Rank", "number"], ["Item", ""], ["Score", "number"], ["", ""],
    ...(likely ? [["Probability", "number"]] : []),
    ...members.map((name) => [name, "number"]),
  ];
  const rows = ranked.map((result, at) => {
    const row = make(
      "tr.can-explain",
      {},
      make("td.number", {}, at + 1),
      itemCell(result),
      make("td.number", {}, figure(result.score)),
      make("td", {}, bar(result.score, scale)),
      likely ? make("td.number", {}, percent(result.probability)) : null,
      ...own.map((cells) => cells[at]),
    );
    row.addEventListener("click", () => explain(result, row));
    return row;
  });
  const caption = "Best first. Choose an item to see what its score is made of.";
  const box = tableBox("results-caption", caption, columns, rows);
  const heads = [...box.querySelectorAll("thead th")].slice(-members.length || Infinity);
  heads.forEach((head) => head.setAttribute("data-member", ""));
  return box;
}

function itemCell(result) {
  const button = make("button.item", {type: "button"}, result.text || result.item);
  const id = result.text ? make("small", {}, result.item) : null;
  return make("th", {scope: "row"}, button, id);
}

/** A member's cells: its own score, and its rank by it. Equal scores share a rank. */
function memberCells(scores) {
  const figure = figures(scores);
  return scores.map((score) => {
    const known = typeof score === "number";
    const rank = 1 + scores.filter((other) => other > score).length;
    const place = known ? make("small", {}, `#${rank}`) : null;
    return make("td.number", {"data-member": true}, figure(score), place);
  });
}
