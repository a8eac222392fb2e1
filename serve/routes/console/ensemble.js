// What is served: its facts, its members, and how good it was on the test block.

import {bar, byId, figures, make, say, scaleOf, tableBox} from "./dom.js";

const TASKS = {next_item: "next item", binary: "yes or no"};

/** Name, version and task at the head of the page; the task is known from the card alone. */
export function showHead({name, version}, card) {
  say(byId("name"), name);
  document.title = `${name} · Penchant console`;
  say(byId("task"), card ? ` · ${TASKS[card.task] ?? card.task}` : "");
  const facts = [["Version", version]];
  if (card) {
    facts.push(
      ["Data until", card.data_until ? dayOf(card.data_until) : "–"],
      ["Items", card.items.toLocaleString("en")],
      ["Members", card.members.length],
      ["Event types", card.types.join(", ") || "–"],
    );
  }
  byId("facts").replaceChildren(
    ...facts.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))),
  );
}

/** `2017-10-02` of a moment that is a whole day, else the moment. */
const dayOf = (text) => text.replace(/[T ]00:00(:00(\.0+)?)?(Z|\+00:00)?$/, "");

/** The card below the answer. */
export function showCard(card) {
  const tables = [memberTable(card)];
  const metrics = Object.entries(card.test);
  if (metrics.length) tables.push(metricTable(metrics, card.metric));
  const made = [
    `A request for each next ${card.unit}`,
    `chosen by ${card.metric}`,
    card.normalization === "none"
      ? "members’ scores combined as they are"
      : `members’ scores made comparable by ${card.normalization}`,
    card.exclude_seen ? "never asks for items that the user has had" : "",
  ];
  byId("ensemble").replaceChildren(
    make("p.note", {}, `${made.filter(Boolean).join(", ")}.`),
    make("div.tables", {}, ...tables),
  );
}

/** Says why there is no card. */
export const showNoCard = (text) => byId("ensemble").replaceChildren(make("p.trouble", {}, text));

function memberTable(card) {
  const weights = card.members.map((member) => member.weight);
  const [scale, figure] = [scaleOf(weights), figures(weights)];
  const sized = card.members.some((member) => member.size);
  const rows = card.members.map((member) =>
    make(
      "tr",
      {},
      make("th", {scope: "row"}, member.id),
      make("td", {}, member.kind),
      make("td", {}, windowOf(member.window)),
      sized ? make("td", {}, member.size ?? "–") : null,
      make("td.number", {}, figure(member.weight)),
      make("td", {}, bar(member.weight, scale)),
    ),
  );
  const columns = [["Member", ""], ["Kind", ""], ["Sees", ""]];
  if (sized) columns.push(["Size", ""]);
  columns.push(["Weight", "number"], ["", ""]);
  return tableBox("members-caption", "Members, and how much history each sees.", columns, rows);
}

function windowOf(window) {
  const parts = [
    window.days ? `${window.days} days` : "",
    window.events ? `${window.events} events` : "",
  ].filter(Boolean);
  const seen = parts.length ? `the last ${parts.join(", at most ")}` : "everything";
  return window.half_life_days ? `${seen}, half-life ${window.half_life_days} days` : seen;
}

function metricTable(metrics, chosen) {
  const rows = metrics.map(([name, value]) => {
    const {mean, low, high} = value !== null && typeof value === "object" ? value : {mean: value};
    const figure = figures([mean, low, high]);
    const known = typeof low === "number" && typeof high === "number";
    const badge = name === chosen ? make("b.badge", {}, "target") : null;
    return make(
      "tr",
      {},
      make("th", {scope: "row"}, name, badge ? " " : null, badge),
      make("td.number", {}, figure(mean)),
      make("td", {}, known ? `${figure(low)} to ${figure(high)}` : "–"),
    );
  });
  const columns = [["Metric", ""], ["Mean", "number"], ["95% interval", ""]];
  const caption = "On the test block, from which nothing was learned or chosen.";
  return tableBox("test-caption", caption, columns, rows);
}
