// @ts-check
/** A map as it was loaded: its numbers with what they are of, which stays theirs while others are on their way. */

import { row } from "./attended.js";
import { isMatrix, mapNamed, numbersPath } from "./maps.js";
import { parseNpy } from "./npy.js";
import { refined } from "./refine.js";

/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./refine.js").Refined} Refined */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./views.js").View} View */

/**
 * @typedef {object} Facts
 * @property {Choice} choice
 * @property {MapSummary} map
 * @property {Layout | null} layout of a text
 * @property {View} view that shows it
 */

/** @typedef {Facts & Refined} Loaded */

/**
 * Fetch what is chosen of a map: of one of tokens by tokens the row of the first token.
 * @param {Session} session
 * @param {import("./views.js").Views} views of the session
 * @param {Choice} choice
 * @param {number} frame
 * @param {AbortSignal} signal
 * @returns {Promise<Loaded>}
 */
export async function loaded(session, views, choice, frame, signal) {
  const map = mapNamed(session.model, choice.map);
  const layout = await views.layout(choice, signal);
  const numbers = await fetched(session, map, choice, frame, signal);
  return { choice, map, layout, view: views.of(map.kind, layout), ...refined(numbers, choice, map.kind, layout) };
}

/**
 * @param {Session} session
 * @param {MapSummary} map
 * @param {Choice} choice
 * @param {number} frame
 * @param {AbortSignal} signal
 * @returns {Promise<Numbers>}
 */
async function fetched(session, map, choice, frame, signal) {
  if (!isMatrix(map)) return session.numbers(numbersPath(choice), parseNpy, signal);
  const found = await row(session, choice, { tokens: [0], frame }, signal);
  return /** @type {{numbers: Numbers}} */ (found).numbers; // the first token is always there
}
