// @ts-check
/** What one token, patch or frame attends to: rows of the maps of tokens by tokens and of frames by frames. */

import { cellAt } from "./geometry.js";
import { attentionOf, fitted, mapNamed, numbersPath, PLAIN, title } from "./maps.js";
import { mean, parseNpy, part } from "./npy.js";
import { pause } from "./pause.js";

/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./view.js").Place} Place */

/**
 * @typedef {object} Attended
 * @property {Numbers} numbers for each token [N], or for each patch [rows, columns]
 * @property {string} of which map
 * @property {string} kind of that map
 * @property {number[]} tokens those that attend, as the server counts them
 */

/** @typedef {Place & {tokens?: number[]}} Query a place, and the tokens that stand there in a text */
/** @typedef {{rows: number, columns: number, before: number}} Patches before: tokens that come before them */

const BLOCK = 2 ** 18; // numbers fetched at once: all of 512 tokens, 64 rows of 4,096
const REST = 60; // milliseconds

/**
 * What a place attends to, in the layer and head that are shown where the attention has the same.
 * @param {Session} session
 * @param {Choice} shown
 * @param {Query} place
 * @param {AbortSignal} signal
 * @returns {Promise<Attended | null>} null where the model has no such map, or the place no token
 */
export async function attended(session, shown, place, signal) {
  const attention = attentionOf(session.model);
  if (!attention || (place.token === undefined && place.x === undefined)) return null;
  const alike = mapNamed(session.model, shown.map).layers.length === attention.layers.length;
  const { layer, head } = alike ? shown : { layer: null, head: null };
  const choice = fitted({ ...PLAIN, map: attention.name, layer, head }, session.model);
  const found = await row(session, choice, place, signal);
  return found && { ...found, of: title(choice, session.model), kind: attention.kind };
}

/**
 * A row of a map of tokens by tokens, the mean of rows where a place has several tokens, and the first one,
 * of the class as a rule, where it has none.
 * @param {Session} session
 * @param {Choice} choice
 * @param {Query} place
 * @param {AbortSignal} signal
 * @returns {Promise<{numbers: Numbers, tokens: number[]} | null>} null where there is no patch at the place
 */
export async function row(session, choice, place, signal) {
  const frame = session.model.family === "video" ? (place.frame ?? 0) : null;
  const grid = session.model.family === "text" ? null : await patches(session, signal);
  const tokens = grid ? patchAt(session, place, grid) : (place.tokens ?? [0]);
  if (!tokens) return null;
  const last = grid ? grid.before + grid.rows * grid.columns : session.prediction.input.tokens.length;
  const one = (/** @type {number} */ token) => tokenRow(session, choice, token, last, frame, signal);
  return { numbers: mean(await Promise.all(tokens.map(one))), tokens };
}

/**
 * Fetched with the rows around it, which are asked for next as a rule.
 * @param {Session} session
 * @param {Choice} choice
 * @param {number} token
 * @param {number} count of tokens that can be pointed at
 * @param {number | null} frame
 * @param {AbortSignal} signal
 * @returns {Promise<Numbers>}
 */
async function tokenRow(session, choice, token, count, frame, signal) {
  const height = Math.max(1, Math.floor(BLOCK / count));
  const start = height * Math.floor(token / height);
  const rows = `${start}:${Math.min(start + height, count)}`;
  return part(await numbers(session, choice, { rows, frame }, signal), token - start);
}

/**
 * How the patches of a picture or frame lie: one small row says it.
 * @param {Session} session
 * @param {AbortSignal} signal
 * @returns {Promise<Patches>}
 */
async function patches(session, signal) {
  const { model } = session;
  const map = /** @type {MapSummary} */ (attentionOf(model));
  const choice = fitted({ ...PLAIN, map: map.name }, model);
  const frame = model.family === "video" ? 0 : null;
  const { shape } = await numbers(session, choice, { token: 0, frame }, signal);
  return { rows: shape[0], columns: shape[1], before: map.tokens_before ?? 0 };
}

/**
 * @param {Session} session
 * @param {Place} place
 * @param {Patches} grid
 * @returns {number[] | null} the first token where no point is meant; null where there is no patch
 */
function patchAt({ prediction }, { x, y }, { rows, columns, before }) {
  if (x === undefined || y === undefined) return [0];
  const cell = cellAt(prediction.input.view, { x, y }, rows, columns);
  return cell && [before + cell.row * columns + cell.column];
}

/**
 * Bars of a clip's frames: what the frame that is pointed at listens to, else what each frame weighs.
 * @param {Session} session
 * @param {Choice} shown
 * @param {{numbers: Numbers} | null} drawn the map that is shown
 * @param {Place | null} place
 * @param {AbortSignal} signal
 * @returns {Promise<{values: ArrayLike<number>, caption: string} | null>} null where the model has no such map
 */
export async function frameBars(session, shown, drawn, place, signal) {
  const { model } = session;
  const own = mapNamed(model, shown.map);
  const frame = place?.frame !== undefined && place.x === undefined ? place.frame : null;
  const matrix = own.kind === "frame_matrix" ? own : model.maps.find(({ kind }) => kind === "frame_matrix");
  const map = (frame === null ? null : matrix) ?? model.maps.find(({ kind }) => kind === "frames");
  if (!map) return null;
  const choice = map === own ? shown : fitted({ ...PLAIN, map: map.name }, model);
  const { shape, data } = map === own && drawn ? drawn.numbers : await numbers(session, choice, {}, signal);
  const name = title(choice, model);
  if (frame === null || map !== matrix) return { values: data, caption: name };
  const values = data.subarray(frame * shape[1], (frame + 1) * shape[1]);
  return { values, caption: `what frame ${frame + 1} listens to (${name})` };
}

/**
 * @param {Session} session
 * @param {Choice} choice
 * @param {Record<string, string | number | null>} slice
 * @param {AbortSignal} signal
 * @returns {Promise<Numbers>}
 */
async function numbers(session, choice, slice, signal) {
  const rest = numbersPath(choice, slice);
  // A pointer passes over many places: what it does not rest on is not worth a run of the model.
  if (!session.has(rest)) await pause(REST, signal);
  return session.numbers(rest, parseNpy, signal);
}
