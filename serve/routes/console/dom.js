// Elements, numbers and dates. Text only ever becomes a text node: nothing here reads markup.

/** The element with an id of the page. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element.
 * @param {string} name such as "td", or "td.number" with a class.
 * @param {object} attributes set as attributes; true sets an empty one, null and false set none.
 * @param {...(Node|string|number|null)} children
 */
export function make(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map(asNode));
  return element;
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

/** Replaces text only where it changed, so that screen readers do not read it twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A bar from zero to a value, on a scale that all bars of a table share.
 * @param {number|null} value
 * @param {[number, number]} scale its ends, as `scaleOf` gives them.
 */
export function bar(value, [low, high]) {
  const track = make("span.bar", {"aria-hidden": "true"});
  if (typeof value !== "number" || high === low) return track; // all are zero
  const at = (number) => (100 * (number - low)) / (high - low);
  const fill = make(value < 0 ? "i.minus" : "i.plus");
  fill.hidden = value === 0;
  fill.style.setProperty("--from", `${at(Math.min(value, 0)).toFixed(2)}%`);
  fill.style.setProperty("--to", `${at(Math.max(value, 0)).toFixed(2)}%`);
  track.append(fill);
  if (low < 0 && high > 0) {
    track.classList.add("both");
    track.style.setProperty("--zero", `${at(0).toFixed(2)}%`);
  }
  return track;
}

/** The ends of a scale that holds zero and every value. */
export function scaleOf(values) {
  const known = values.filter((value) => typeof value === "number");
  return [Math.min(0, ...known), Math.max(0, ...known)];
}

/** The same scale to both sides of zero, for values that pull one way or the other. */
export function balancedScaleOf(values) {
  const [low, high] = scaleOf(values);
  const reach = Math.max(-low, high);
  return [-reach, reach];
}

/**
 * How to write the numbers of one column: equally many decimals, four digits for the largest.
 * @param {(number|null|undefined)[]} values
 * @param {{signed?: boolean}} [options] `signed`: a plus before what is above zero.
 * @returns {(value: number|null|undefined) => string} a dash for no number.
 */
export function figures(values, {signed = false} = {}) {
  const reach = Math.max(...balancedScaleOf(values));
  const decimals = reach > 0 ? Math.min(Math.max(4 - Math.ceil(Math.log10(reach)), 0), 8) : 0;
  const format = new Intl.NumberFormat("en", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
    signDisplay: signed ? "exceptZero" : "negative",
  });
  return (value) =>
    typeof value === "number" ? format.format(value).replace("-", "−") : "–";
}

/** A probability as per cent. */
export const percent = (value) =>
  typeof value !== "number"
    ? "–"
    : `${(100 * value).toLocaleString("en", {maximumSignificantDigits: value < 0.1 ? 2 : 3})}%`;

/** A whole number with its noun: `1 event`, `2,000 events`. */
export const count = (number, noun) =>
  `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** A moment in UTC to the minute; the bare day where it is midnight. */
export function moment(milliseconds) {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return "–";
  const text = date.toISOString();
  return text.slice(11, 16) === "00:00" ? text.slice(0, 10) : text.slice(0, 16).replace("T", " ");
}

/** A table that scrolls inside its own box, with a caption. */
export function tableBox(id, caption, columns, rows) {
  const head = columns.map(([title, kind]) =>
    make(kind ? `th.${kind}` : "th", {scope: "col"}, title),
  );
  const table = make(
    "table",
    {},
    make("caption", {id}, caption),
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...rows),
  );
  return make("div.scroll", {role: "region", tabindex: "0", "aria-labelledby": id}, table);
}
