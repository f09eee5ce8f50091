// @ts-check
/** What a model's maps are, what can be chosen of them, and how that is asked for. */

/**
 * @typedef {object} MapSummary
 * @property {string} name
 * @property {string} kind
 * @property {string} description
 * @property {string[]} axes
 * @property {string[]} layers
 * @property {number | null} heads
 * @property {string[]} formats
 * @property {string[]} options which of layer, head, target, token, rows, frame, discard it takes
 * @property {[number, number] | null} [fixed_range]
 * @property {number | null} [tokens_before]
 */

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string} version
 * @property {"text" | "image" | "video"} family
 * @property {string} description
 * @property {string[]} labels
 * @property {string} activation
 * @property {{pairs?: boolean, max_tokens?: number}} preprocessing
 * @property {MapSummary[]} maps
 */

/**
 * @typedef {object} Choice what of a map is shown; null where the map has no such thing
 * @property {string} map
 * @property {number | null} layer
 * @property {string | null} head an index, mean, max or min
 * @property {string | null} target a label as the server understands it
 */

export const FUSES = ["mean", "max", "min"];
const FIRST = ["rollout", "cam"]; // what is shown first, where the model has it
const MATRICES = ["token_matrix", "grid_matrix"];

/**
 * A map by its name.
 * @param {Model} model
 * @param {string} name
 * @returns {MapSummary}
 */
export function mapNamed(model, name) {
  const found = model.maps.find((map) => map.name === name);
  if (!found) throw new Error(`model ${model.name} has no map ${name}`);
  return found;
}

/**
 * Whether a map is one of tokens by tokens: it is shown for one token at a time, and fetched in rows.
 * @param {MapSummary} map
 * @returns {boolean}
 */
export function isMatrix(map) {
  return MATRICES.includes(map.kind);
}

/**
 * The map that says what one token attends to, if the model has one.
 * @param {Model} model
 * @returns {MapSummary | null}
 */
export function attentionOf(model) {
  return model.maps.find(isMatrix) ?? null;
}

/**
 * What is shown of a model at first.
 * @param {Model} model
 * @returns {Choice}
 */
export function firstChoice(model) {
  const name = FIRST.find((one) => model.maps.some((map) => map.name === one)) ?? model.maps[0].name;
  return fitted({ map: name, layer: null, head: null, target: null }, model);
}

/**
 * A choice as its map allows it: what the map has not is left out, what is missing is the last layer, the
 * mean of the heads and the predicted label (left to the server).
 * @param {Choice} choice
 * @param {Model} model
 * @returns {Choice}
 */
export function fitted(choice, model) {
  const map = mapNamed(model, choice.map);
  const last = map.layers.length - 1;
  const head = choice.head ?? "mean";
  const fits = FUSES.includes(head) || (map.heads !== null && Number(head) < map.heads);
  const fused = map.heads === null && (head === "mean" || !fits); // as the map is made unless said otherwise
  return {
    map: map.name,
    layer: last < 0 ? null : Math.min(choice.layer ?? last, last),
    head: !map.options.includes("head") || fused ? null : fits ? head : "mean",
    target: map.options.includes("target") ? choice.target : null,
  };
}

/**
 * What a choice is in a query.
 * @param {Choice} choice
 * @param {Record<string, string | number | null | undefined>} [more]
 * @returns {string} with its question mark; empty where there is nothing to say
 */
export function query({ layer, head, target }, more = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries({ layer, head, target, ...more })) {
    if (value !== null && value !== undefined && value !== "") words.set(name, String(value));
  }
  const written = words.toString();
  return written && `?${written}`;
}

/**
 * A label as the server understands it: its name, or its index where another has the same name.
 * @param {string[]} labels
 * @param {number} index
 * @returns {string}
 */
export function targetWord(labels, index) {
  return labels.indexOf(labels[index]) === index ? labels[index] : String(index);
}

/**
 * A choice in words.
 * @param {Choice} choice
 * @param {Model} model
 * @returns {string}
 */
export function title({ map, layer, head, target }, model) {
  const { layers } = mapNamed(model, map);
  const heads = head === null ? null : FUSES.includes(head) ? `${head} of heads` : `head ${head}`;
  return [map, layer === null ? null : layers[layer], heads, target].filter((word) => word !== null).join(", ");
}
