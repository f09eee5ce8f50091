// @ts-check
/** The same questions for a shell. */

import { isMatrix, mapNamed, mapPath } from "./maps.js";
import { contentType, jsonBody, LISTED, predictPath } from "./session.js";

/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./session.js").Session} Session */

// Characters that a terminal could take for commands, or that a reader cannot see.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * A word as a shell reads it.
 * @param {string} word
 * @returns {string}
 */
export function quoted(word) {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * The command that asks for the prediction and the map that is shown.
 * @param {Session} session
 * @param {Choice} choice
 * @param {string} origin of the server
 * @param {boolean} withKey
 * @returns {string}
 */
export function predictCommand({ model, input, verify }, { map, layer, head, ...more }, origin, withKey) {
  const asked = isMatrix(mapNamed(model, map)) ? {} : { maps: map, layers: layer, heads: head, ...more };
  const options = Object.fromEntries(Object.entries({ ...asked, verify }).filter(([, value]) => value !== null && value !== false));
  const words = Object.fromEntries(Object.entries(options).map(([name, value]) => [name, String(value)]));
  const address = quoted(origin + predictPath(model, input, words));
  const kind = `-H ${quoted(`content-type: ${contentType(input)}`)}`;
  if (input.kind === "text") {
    const body = jsonBody(input, { top_k: LISTED, ...options });
    return `curl -s ${address}${key(withKey)} ${kind} --data-binary ${quoted(visible(body))}`;
  }
  if (input.address) {
    return `curl -s ${quoted(origin + input.address)} | curl -s ${address}${key(withKey)} ${kind} --data-binary @-`;
  }
  return `curl -s ${address}${key(withKey)} ${kind} --data-binary ${quoted(`@${input.name.replace(HIDDEN, "?")}`)}`;
}

/**
 * The command that fetches the map as a file.
 * @param {Session} session
 * @param {Choice} choice
 * @param {string} format
 * @param {Record<string, string | number | null>} drawing options
 * @param {string} origin
 * @param {boolean} withKey
 * @returns {string}
 */
export function mapCommand(session, choice, format, drawing, origin, withKey) {
  const path = session.path(mapPath(choice, format, drawing));
  return `curl -s ${quoted(origin + path)}${key(withKey)} -o ${quoted(`${choice.map}.${format}`)}`;
}

/** @param {boolean} with_ */
function key(with_) {
  return with_ ? ' -H "authorization: Bearer $REGARD_KEY"' : "";
}

/**
 * JSON without characters that cannot be seen.
 * @param {string} json
 * @returns {string}
 */
function visible(json) {
  return json.replace(HIDDEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
