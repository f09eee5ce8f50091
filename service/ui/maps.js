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
 * @property {number | null} discard the share of each row of attention that a rollout leaves out
 * @property {number | null} mass the share of the total that the values which are kept hold
 * @property {number | null} top how many values are kept
 * @property {"hide" | null} special whether a text's special tokens are shown
 * @property {true | null} words whether a text's tokens are shown as words
 */

export const FUSES = ["mean", "max", "min"];
const FIRST = ["rollout", "cam"]; // what is shown first, where the model has it
/** @type {Omit<Choice, "map">} what a choice is unless something was chosen */
export const PLAIN = {
  layer: null,
  head: null,
  target: null,
  discard: null,
  mass: null,
  top: null,
  special: null,
  words: null,
};
const ON_PICTURE = ["grid", "grid_matrix", "frame_grid"];
const OF_TEXT = ["tokens", "token_matrix"];
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
 * Whether a map of a kind lies on a picture or on frames, as it is shown.
 * @param {string} kind
 * @returns {boolean}
 */
export function isOnPicture(kind) {
  return ON_PICTURE.includes(kind);
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
  return fitted({ ...PLAIN, map: name }, model);
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
    discard: map.options.includes("discard") ? choice.discard : null,
    mass: choice.mass,
    top: choice.top,
    special: OF_TEXT.includes(map.kind) ? choice.special : null,
    words: OF_TEXT.includes(map.kind) ? choice.words : null,
  };
}

/**
 * The names of what can be changed of a map beside its layer, head and class.
 * @param {MapSummary} map
 * @returns {(keyof Choice)[]}
 */
export function refinements({ kind, options }) {
  /** @type {(keyof Choice)[]} */
  const names = options.includes("discard") ? ["discard"] : [];
  return [...names, "mass", "top", ...(OF_TEXT.includes(kind) ? /** @type {const} */ (["special", "words"]) : [])];
}

/** @typedef {Record<string, string | number | boolean | null | undefined>} Options */

/**
 * Where a map of a prediction is.
 * @param {Choice} choice
 * @param {string} format
 * @param {Options} [more]
 * @returns {string}
 */
export function mapPath({ map, ...chosen }, format, more = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...chosen, ...more })) {
    if (value !== null && value !== undefined && value !== "") words.set(name, String(value));
  }
  const written = words.toString();
  return `maps/${encodeURIComponent(map)}.${format}${written && `?${written}`}`;
}

/**
 * Where the numbers of a map are, whole: they are refined here, so that nothing is fetched again for it.
 * @param {Choice} choice
 * @param {Options} [slice]
 * @returns {string}
 */
export function numbersPath({ map, layer, head, target, discard }, slice) {
  return mapPath({ ...PLAIN, map, layer, head, target, discard }, "npy", slice);
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
 * A label for people: with its index where another has the same name.
 * @param {string[]} labels
 * @param {number} index
 * @returns {string}
 */
export function labelName(labels, index) {
  const label = labels[index];
  return labels.indexOf(label) === labels.lastIndexOf(label) ? label : `${label} (${index})`;
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
