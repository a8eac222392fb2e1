// Why an item has its score: the members' parts of it, and the events that raise or lower it.

import {
  balancedScaleOf, bar, byId, figures, make, moment, percent, scaleOf, tableBox,
} from "./dom.js";
import {leftOut} from "./answer.js";

/** Says that an explanation is on its way, or why there is none. */
export function showExplanationNote(title, text, close, trouble = false) {
  const line = make(trouble ? "p.trouble" : "p.note", {role: trouble ? "alert" : "status"}, text);
  byId("explanation").replaceChildren(panel(title, close, line));
}

/**
 * Shows an explanation.
 * @param {object} answer of /v1/explain, for one item.
 * @param {() => void} close
 */
export function showExplanation(answer, close) {
  const [result] = answer.results;
  const title = result.text || result.item;
  const parts = [line(result)];
  if (answer.degraded) {
    parts.push(make("p.banner", {}, `Degraded: explained without ${leftOut(answer)}.`));
  }
  const tables = [memberTable(result.members), eventTable(result.events, answer)];
  parts.push(make("div.tables", {}, ...tables));
  byId("explanation").replaceChildren(panel(title, close, ...parts));
}

export const hideExplanation = () => byId("explanation").replaceChildren();

function panel(title, close, ...parts) {
  const button = make("button", {type: "button"}, "Close");
  button.addEventListener("click", close);
  const heading = make("h3", {id: "explanation-title", tabindex: "-1"}, `Why: ${title}`);
  return make(
    "div.panel",
    {role: "group", "aria-labelledby": "explanation-title"},
    make("div.head", {}, heading, button),
    ...parts,
  );
}

function line(result) {
  const likely = typeof result.probability === "number";
  const chance = likely ? `, probability ${percent(result.probability)}` : "";
  const id = result.text ? `Item ${result.item}: score ` : "Score ";
  const score = figures([result.score])(result.score);
  return make("p.note", {role: "status"}, `${id}${score}${chance}.`);
}

function memberTable(members) {
  if (!members?.length) return make("p", {}, "The members’ parts are not told.");
  const shared = members.some((member) => typeof member.share === "number");
  const shares = members.map((member) => member.share);
  const [scale, share] = [scaleOf(shares), figures(shares, {signed: true})];
  const weight = figures(members.map((member) => member.weight));
  const score = figures(members.map((member) => member.score));
  const rows = members.map((member) =>
    make(
      "tr",
      {},
      make("th", {scope: "row"}, member.member),
      ...(shared
        ? [make("td.number", {}, share(member.share)), make("td", {}, bar(member.share, scale))]
        : []),
      make("td.number", {}, weight(member.weight)),
      make("td.number", {}, score(member.score)),
    ),
  );
  const columns = [["Member", ""]];
  if (shared) columns.push(["Share", "number"], ["", ""]);
  columns.push(["Weight", "number"], ["Own score", "number"]);
  const caption = shared
    ? "Members: what each adds to the score."
    : "Members. This combination is no weighted sum, so that no member has a share of its own.";
  return tableBox("shares-caption", caption, columns, rows);
}

function eventTable(events, {explained_events: tried, used_events: used}) {
  if (!events?.length) return make("p", {}, "No event of the history changes this score.");
  const effects = events.map((event) => event.effect);
  const [scale, effect] = [balancedScaleOf(effects), figures(effects, {signed: true})];
  const rows = events.map((event) =>
    make(
      "tr",
      {},
      make(
        "th",
        {scope: "row"},
        event.text || event.item,
        make("small", {}, event.text ? `${event.item} · ` : null, moment(event.time_ms)),
      ),
      make("td.number", {}, effect(event.effect), make("small", {}, direction(event.effect))),
      make("td", {}, bar(event.effect, scale)),
    ),
  );
  const part = tried < used ? ` The newest ${tried} of ${used} events were tried.` : "";
  const caption =
    "Events, those of one item together: the score with the whole history, less the score " +
    `without them.${part}`;
  const columns = [["Event, and when (UTC)", ""], ["Effect", "number"], ["", ""]];
  return tableBox("events-caption", caption, columns, rows);
}

const direction = (effect) => (effect > 0 ? "raises" : effect < 0 ? "lowers" : "no effect");
