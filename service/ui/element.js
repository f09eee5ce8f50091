// @ts-check
/** Elements of the page. What comes from outside is set as text, never read as HTML. */

/**
 * An element with attributes (true sets an empty one; false, null and undefined set none) and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.flatMap((child) => child ?? []));
  return made;
}

/**
 * The element of the page with this id.
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/**
 * A choice with a label: its options are values with what is shown for them.
 * @param {string} label
 * @param {[string, string][]} options
 * @param {string} value
 * @param {(value: string) => void} chosen
 * @returns {HTMLLabelElement}
 */
export function choice(label, options, value, chosen) {
  const select = element("select", {}, ...options.map(([key, text]) => element("option", { value: key }, text)));
  select.value = value;
  select.addEventListener("change", () => chosen(select.value));
  return element("label", { class: "choice" }, element("span", {}, label), select);
}

/**
 * A function that runs at most once a frame, with the arguments of its last call.
 * @template {unknown[]} Args
 * @param {(...args: Args) => void} draw
 * @returns {(...args: Args) => void}
 */
export function oncePerFrame(draw) {
  /** @type {Args | null} */
  let last = null;
  return (...args) => {
    if (last === null) {
      requestAnimationFrame(() => {
        const now = /** @type {Args} */ (last);
        last = null;
        draw(...now);
      });
    }
    last = args;
  };
}
