// @ts-check
/** What a text's map is shown of: its tokens, those that are not special, or its words. */

import { mapPath, PLAIN } from "./maps.js";
import { Problem } from "./problem.js";

/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./pieces.js").TextRead} TextRead */
/** @typedef {import("./session.js").Session} Session */

/**
 * @typedef {object} Layout
 * @property {TextRead} read the tokens or words
 * @property {number[][]} of the input's tokens that each of them stands for
 * @property {number[]} hidden those of the input that none stands for
 */

/**
 * Throws a Problem where nothing would be left.
 * @param {Session} session of a text
 * @param {Choice} choice
 * @param {AbortSignal} signal
 * @returns {Promise<Layout>}
 */
export async function layoutOf(session, { special, words }, signal) {
  const read = /** @type {TextRead} */ (session.prediction.input);
  const all = read.tokens.map((_, at) => at);
  const shown = all.filter((at) => special === null || !read.special[at]);
  const hidden = all.filter((at) => special !== null && read.special[at]);
  if (!shown.length) throw new Problem({ title: "Nothing is left", detail: "The text has special tokens alone.", field: "special" });
  if (words === null) return { read: picked(read, shown), of: shown.map((at) => [at]), hidden };
  const found = await merged(session, special, signal);
  const of = grouped(read, shown, found);
  return { read: { ...read, ...found, special: of.map(([first]) => read.special[first]) }, of, hidden };
}

/**
 * Words as the server finds them: it says so with any map over tokens, best one that it has made already.
 * @param {Session} session
 * @param {"hide" | null} special
 * @param {AbortSignal} signal
 * @returns {Promise<Pick<TextRead, "tokens" | "offsets" | "segments">>}
 */
async function merged(session, special, signal) {
  const { model, prediction } = session;
  const over = model.maps.filter(({ kind }) => kind === "tokens").map(({ name }) => name);
  const map = prediction.maps.map(({ name }) => name).find((name) => over.includes(name)) ?? over[0];
  const rest = mapPath({ ...PLAIN, map, special, words: true }, "json");
  const { tokens, offsets, segments } = await (await session.fetch(rest, signal)).json();
  return { tokens, offsets, segments };
}

/**
 * Which tokens each word is made of: one begins where its first token does.
 * @param {TextRead} read
 * @param {number[]} shown
 * @param {Pick<TextRead, "offsets" | "segments">} words
 * @returns {number[][]}
 */
function grouped({ offsets, segments }, shown, words) {
  /** @type {number[][]} */
  const groups = [];
  for (const at of shown) {
    const next = groups.length;
    const begins = words.segments[next] === segments[at] && words.offsets[next][0] === offsets[at][0];
    if (begins) groups.push([at]);
    else groups[next - 1].push(at);
  }
  if (groups.length !== words.offsets.length) throw new Error("the words do not fit the tokens");
  return groups;
}

/**
 * @param {TextRead} read
 * @param {number[]} shown
 * @returns {TextRead}
 */
function picked(read, shown) {
  return {
    ...read,
    tokens: shown.map((at) => read.tokens[at]),
    offsets: shown.map((at) => read.offsets[at]),
    segments: shown.map((at) => read.segments[at]),
    special: shown.map((at) => read.special[at]),
  };
}
