// @ts-check
/** The elements of a text: one or two for each piece, in blocks that a browser need not lay out unseen. */

import { element } from "./element.js";

/** @typedef {import("./pieces.js").Piece} Piece */

/**
 * @typedef {object} Content
 * @property {Piece[]} on pieces on the texts
 * @property {Piece[]} beside pieces that cover nothing of them
 * @property {string[]} texts
 * @property {import("./pieces.js").TextRead} read
 */

const BLOCK = 128; // pieces, at least, before a line break ends a block
const FIELDS = ["text", "text_pair"];

/**
 * Fill an element with texts; what covers nothing of them stands above.
 * @param {HTMLElement} into
 * @param {Content} content
 * @returns {HTMLElement[][]} the elements of each piece, those beside the texts last
 */
export function fill(into, { on, beside, texts, read }) {
  /** @type {HTMLElement[][]} */
  const elements = [];
  const numbered = on.map((piece, at) => ({ ...piece, at }));
  texts.forEach((text, segment) => {
    if (texts.length > 1) into.append(element("p", { class: "field", role: "presentation" }, FIELDS[segment]));
    const own = numbered.filter((piece) => piece.segment === segment);
    into.append(body(text, own, read.truncated, elements));
  });
  const chips = beside.map(({ tokens }, index) => {
    const made = token(on.length + index, tokens.map((one) => read.tokens[one]).join(" "));
    elements.push([made]);
    return made;
  });
  if (chips.length) into.prepend(element("div", { class: "chips", role: "presentation" }, ...chips));
  return elements;
}

/**
 * One text; a piece with a line break may be cut in two by the end of a block.
 * @param {string} text
 * @param {(Piece & {at: number})[]} own
 * @param {boolean} truncated
 * @param {HTMLElement[][]} elements to which those of each piece are added
 * @returns {HTMLElement}
 */
function body(text, own, truncated, elements) {
  const made = element("div", { class: "text", dir: "auto", role: "presentation" });
  /** @type {Node[]} */
  let block = [];
  let filled = 0;
  let written = 0;
  const cut = () => {
    made.append(element("div", { class: "block", role: "presentation" }, ...block));
    block = [];
    filled = 0;
  };
  for (const { at, start, end } of own) {
    if (written < start) block.push(document.createTextNode(text.slice(written, start)));
    const shown = text.slice(start, end);
    const breaks = filled >= BLOCK ? shown.lastIndexOf("\n") + 1 : 0;
    const parts = breaks ? [shown.slice(0, breaks), shown.slice(breaks)].filter(Boolean) : [shown];
    const spans = parts.map((part) => token(at, part));
    elements.push(spans);
    block.push(spans[0]);
    if (breaks) cut();
    block.push(...spans.slice(1));
    filled += 1;
    written = end;
  }
  const rest = text.slice(written);
  if (rest && truncated) block.push(element("span", { class: "unseen", title: "not seen by the model" }, rest));
  else if (rest) block.push(document.createTextNode(rest));
  cut();
  return made;
}

/**
 * @param {number} at which piece
 * @param {string} text
 * @returns {HTMLElement}
 */
function token(at, text) {
  const breaks = text.includes("\n");
  return element("span", { class: "t", role: "option", tabindex: -1, "data-at": at, "data-line": breaks }, text);
}
