// @ts-check
/** Tokens on their text: stretches without overlap, as the server's own drawings have them. */

/**
 * @typedef {object} TextRead what the API says of a text
 * @property {string[]} tokens
 * @property {[number, number][]} offsets in characters (code points) of the text
 * @property {number[]} segments
 * @property {boolean[]} special
 * @property {boolean} truncated
 * @property {number} dropped_tokens
 */

/**
 * @typedef {object} Piece one token, or several that share a character (parts of one in bytes)
 * @property {number} segment which text
 * @property {number} start in UTF-16 units, as strings have them here
 * @property {number} end
 * @property {number[]} tokens indices
 */

/**
 * The pieces on the texts in their order, and those of special tokens and others that cover nothing.
 * @param {TextRead} read
 * @param {string[]} texts
 * @returns {{on: Piece[], beside: Piece[]}}
 */
export function pieces(read, texts) {
  const places = texts.map(unitsOf);
  const all = read.tokens.map((_, index) => {
    const segment = read.segments[index];
    const [start, end] = read.offsets[index].map((at) => places[segment](at));
    return { segment, start, end, tokens: [index] };
  });
  const covers = (/** @type {Piece} */ { start, end, tokens }) => !read.special[tokens[0]] && start < end;
  const sorted = all.filter(covers).sort((a, b) => a.segment - b.segment || a.start - b.start || a.end - b.end);
  /** @type {Piece[]} */
  const on = [];
  for (const piece of sorted) {
    const last = on.at(-1);
    if (last && last.segment === piece.segment && piece.start < last.end) {
      last.end = Math.max(last.end, piece.end);
      last.tokens.push(...piece.tokens);
    } else {
      on.push(piece);
    }
  }
  return { on, beside: all.filter((piece) => !covers(piece)) };
}

/**
 * A function from code points to UTF-16 units, which differ where a text holds a character beyond U+FFFF.
 * @param {string} text
 * @returns {(at: number) => number}
 */
function unitsOf(text) {
  if (!/[\ud800-\udbff]/.test(text)) return (at) => at;
  const units = [0];
  for (const character of text) units.push(units[units.length - 1] + character.length);
  return (at) => units[Math.min(at, units.length - 1)];
}

/**
 * The value of each piece: the sum of its tokens'.
 * @param {Piece[]} all
 * @param {ArrayLike<number>} values by token
 * @returns {Float64Array}
 */
export function sums(all, values) {
  return Float64Array.from(all, ({ tokens }) => tokens.reduce((sum, token) => sum + values[token], 0));
}
