// @ts-check
/** All layers and heads of a map as small pictures, to choose one from. */

import { pixels } from "./colors.js";
import { element } from "./element.js";
import { isMatrix, mapNamed, numbersPath, PLAIN } from "./maps.js";
import { mean, parseNpy, part } from "./npy.js";
import { isAbort, Problem } from "./problem.js";
import { scaled } from "./scale.js";

/** @typedef {import("./colors.js").Colors} Colors */
/** @typedef {import("./desk.js").Desk} Desk */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./session.js").Session} Session */

const GRIDS = ["grid", "frame_grid", "frame_matrix"];

export class Thumbnails {
  #title = element("h2", { id: "thumbnails-title" }, "Layers and heads");
  #grid = element("div", { class: "thumbnails", role: "grid", "aria-labelledby": "thumbnails-title" });
  element = element("section", { class: "card", hidden: true }, this.#title, this.#grid);
  #colors;
  #desk;
  #chosen;
  #shown = "";
  #kind = "";
  /** @type {[number, number] | null} */
  #fixed = null;
  /** @type {Numbers[][]} [layer][head] */
  #numbers = [];
  /** @type {string[]} */
  #layers = [];
  /** @type {HTMLElement[][]} */
  #cells = [];
  #current = [0, 0];
  #loading = new AbortController();

  /**
   * @param {object} of
   * @param {Colors} of.colors
   * @param {Desk} of.desk
   * @param {(wanted: Partial<Choice>) => void} of.chosen
   */
  constructor({ colors, desk, chosen }) {
    this.#colors = colors;
    this.#desk = desk;
    this.#chosen = chosen;
    desk.subscribe((_, names) => {
      if (names.includes("colormap") || names.includes("scale")) this.#draw();
    });
    this.#grid.addEventListener("click", (event) => this.#choose(placeOf(event.target)));
    this.#grid.addEventListener("focusin", (event) => this.#rove(placeOf(event.target)));
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * Show the layers and heads of a choice; nothing where there is one of each.
   * @param {Session} session
   * @param {Choice} choice
   */
  async show(session, choice) {
    const map = source(session, choice);
    this.element.hidden = map === null;
    this.#loading.abort();
    if (!map) {
      this.#shown = "";
      return;
    }
    const target = map.options.includes("target") ? choice.target : null;
    const shown = `${session.answer.id} ${map.name} ${target}`;
    if (shown !== this.#shown) {
      this.#loading = new AbortController();
      try {
        this.#numbers = await fetched(session, map, target, this.#loading.signal);
      } catch (error) {
        this.element.hidden = true; // the pane beside it says what is wrong
        if (isAbort(error) || error instanceof Problem) return;
        throw error;
      }
      this.#shown = shown;
      this.#layers = map.layers;
      this.#kind = map.kind;
      this.#fixed = map.fixed_range ?? null;
      this.#build(map);
      this.#draw();
    }
    this.#select(choice);
  }

  /** @param {MapSummary} map */
  #build(map) {
    const heads = map.heads ?? 0;
    const names = heads ? ["mean", ...Array.from({ length: heads }, (_, at) => String(at))] : [""];
    this.#title.textContent = heads ? "Layers and heads" : "Layers";
    this.#grid.classList.toggle("flat", !heads);
    this.#cells = this.#layers.map((layer, row) =>
      names.map((head, column) => {
        const label = head === "" ? layer : `${layer}, ${head === "mean" ? "mean of heads" : `head ${head}`}`;
        const attributes = { role: "gridcell", class: "thumbnail", tabindex: -1, "aria-label": label, title: label };
        const cell = element("div", { ...attributes, "data-row": row, "data-column": column }, element("canvas"));
        if (head !== "") cell.dataset.head = head;
        return cell;
      }),
    );
    this.#current = [0, 0];
    const top = element("div", { role: "row", class: "names" }, element("span", { role: "columnheader" }, ""));
    for (const head of names) top.append(element("span", { role: "columnheader" }, head));
    const rows = this.#cells.map((cells, row) =>
      element("div", { role: "row" }, element("span", { role: "rowheader" }, this.#layers[row]), ...cells),
    );
    this.#grid.replaceChildren(...(heads ? [top, ...rows] : rows));
    this.#grid.style.setProperty("--columns", String(names.length));
  }

  /** Heads of a layer have one scale, so that they can be compared. */
  #draw() {
    const { colormap, scale } = this.#desk.state;
    this.#numbers.forEach((heads, row) => {
      const all = heads.length > 1 ? [mean(heads), ...heads] : heads;
      const layer = scaled(heads.map(({ data }) => data), scale, this.#colors.usualScale(this.#kind), this.#fixed);
      const table = this.#colors.table(this.#colors.fitting(layer, colormap));
      all.forEach(({ shape: [rows, columns], data }, column) => {
        const canvas = this.#cells[row]?.[column]?.querySelector("canvas");
        if (canvas) pixels(data, rows, columns, table, layer, canvas);
      });
    });
  }

  /** @param {Choice} choice */
  #select({ layer, head }) {
    this.#cells.forEach((cells, row) =>
      cells.forEach((cell, column) => {
        const chosen = row === layer && (cell.dataset.head ?? head) === head;
        cell.setAttribute("aria-selected", String(chosen));
        if (chosen) this.#rove([row, column]);
      }),
    );
    const [row, column] = this.#current;
    this.#cells[row]?.[column]?.setAttribute("tabindex", "0");
  }

  /** @param {[number, number] | null} place */
  #choose(place) {
    if (!place) return;
    const head = this.#cells[place[0]][place[1]].dataset.head;
    this.#chosen({ layer: place[0], ...(head === undefined ? {} : { head }) });
  }

  /** @param {[number, number] | null} place */
  #rove(place) {
    if (!place) return;
    const [row, column] = this.#current;
    this.#cells[row]?.[column]?.setAttribute("tabindex", "-1");
    this.#current = place;
    this.#cells[place[0]][place[1]].setAttribute("tabindex", "0");
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const place = placeOf(event.target);
    if (!place || event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = place;
    const [bottom, right] = [this.#cells.length - 1, this.#cells[0].length - 1];
    const steps = {
      ArrowRight: [row, Math.min(column + 1, right)],
      ArrowLeft: [row, Math.max(column - 1, 0)],
      ArrowDown: [Math.min(row + 1, bottom), column],
      ArrowUp: [Math.max(row - 1, 0), column],
      Home: [row, 0],
      End: [row, right],
    };
    if (event.key === "Enter" || event.key === " ") {
      this.#choose(place);
    } else if (event.key in steps) {
      const [to, along] = steps[/** @type {keyof steps} */ (event.key)];
      this.#cells[to][along].focus();
    } else {
      return;
    }
    event.preventDefault();
  }
}

/**
 * The map whose layers and heads are shown: the chosen one, and for one of tokens by tokens the class rows.
 * @param {Session} session
 * @param {Choice} choice
 * @returns {MapSummary | null}
 */
function source({ model }, choice) {
  const map = mapNamed(model, choice.map);
  const rows = model.maps.find(({ name }) => name === "cls") ?? null;
  const found = isMatrix(map) ? rows : map;
  if (!found || found.layers.length !== map.layers.length || found.heads !== map.heads) return null;
  return found.layers.length * (found.heads ?? 1) > 1 ? found : null;
}

/**
 * All layers and heads at once; layers of gates, which may differ in resolution, one by one.
 * @param {Session} session
 * @param {MapSummary} map
 * @param {string | null} target
 * @param {AbortSignal} signal
 * @returns {Promise<Numbers[][]>}
 */
async function fetched(session, map, target, signal) {
  const head = map.heads === null ? null : "all";
  const address = (/** @type {string | number} */ layer) =>
    numbersPath({ ...PLAIN, map: map.name, head, target }, { layer });
  const heads = (/** @type {Numbers} */ layer) =>
    (map.heads === null ? [layer] : split(layer)).map((one) => flat(one, map.kind));
  if (map.heads !== null || map.kind === "tokens") {
    return split(await session.numbers(address("all"), parseNpy, signal)).map(heads);
  }
  const layers = map.layers.map((_, layer) => session.numbers(address(layer), parseNpy, signal));
  return (await Promise.all(layers)).map(heads);
}

/**
 * @param {Numbers} numbers
 * @returns {Numbers[]}
 */
function split(numbers) {
  return Array.from({ length: numbers.shape[0] }, (_, at) => part(numbers, at));
}

/**
 * A map as rows and columns: the mean over frames, and what lies in a line in rows of about its root.
 * @param {Numbers} numbers
 * @param {string} kind
 * @returns {Numbers}
 */
function flat(numbers, kind) {
  if (numbers.shape.length === 3) return mean(split(numbers));
  if (GRIDS.includes(kind)) return numbers;
  const { data } = numbers;
  const columns = Math.ceil(Math.sqrt(data.length));
  const rows = Math.ceil(data.length / columns);
  const padded = new Float32Array(rows * columns);
  padded.set(data);
  return { shape: [rows, columns], data: padded };
}

/**
 * @param {EventTarget | null} target
 * @returns {[number, number] | null}
 */
function placeOf(target) {
  const cell = target instanceof Element ? target.closest("[data-row]") : null;
  return cell instanceof HTMLElement ? [Number(cell.dataset.row), Number(cell.dataset.column)] : null;
}
