// @ts-check
/** One map on the input: what is chosen of it, its drawing, its legend, and what it says of a place. */

import { element } from "./element.js";
import { Controls } from "./controls.js";
import { seenPart } from "./geometry.js";
import { attended, frameBars, row } from "./attended.js";
import { Legend } from "./legend.js";
import { fitted, firstChoice, isMatrix, mapNamed, query } from "./maps.js";
import { parseNpy } from "./npy.js";
import { isAbort, showProblem } from "./problem.js";
import { scaled } from "./scale.js";
import { makeView } from "./views.js";

/** @typedef {import("./colors.js").Colors} Colors */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./desk.js").Desk} Desk */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {import("./views.js").View} View */

const ON_PICTURES = ["grid", "grid_matrix", "frame_grid"];

export class Pane {
  #controls = new Controls((wanted) => this.choose(wanted));
  #description = element("p", { class: "description" });
  #problem = element("div", {});
  #place = element("div", { class: "view" });
  #legend = new Legend();
  #readout = element("p", { class: "readout" });
  element;
  #desk;
  #colors;
  #changed;
  #announce;
  /** @type {() => Pane | null} */
  #peer;
  /** @type {Session | null} */
  #session = null;
  /** @type {import("./views.js").Media} */
  #media = null;
  /** @type {Map<string, View>} by what they show */
  #views = new Map();
  /** @type {Choice} what was chosen, for any map */
  #wanted = { map: "", layer: null, head: null, target: null };
  /** @type {Numbers | null} */
  #numbers = null;
  /** @type {import("./attended.js").Attended | null} what the place that is pointed at attends to */
  #peek = null;
  #loading = new AbortController();
  #peeking = new AbortController();

  /**
   * @param {object} of
   * @param {string} of.name
   * @param {Colors} of.colors
   * @param {Desk} of.desk
   * @param {() => void} of.changed is told when another map, layer, head or class is shown
   * @param {() => Pane | null} of.peer the pane beside this one, if there is one
   * @param {(text: string) => void} of.announce
   */
  constructor({ name, colors, desk, changed, peer, announce }) {
    this.#colors = colors;
    this.#desk = desk;
    this.#changed = changed;
    this.#peer = peer;
    this.#announce = announce;
    this.element = element("section", { class: "pane", "aria-label": name });
    this.element.append(
      this.#controls.element,
      this.#description,
      this.#problem,
      this.#place,
      this.#legend.element,
      this.#readout,
    );
    desk.subscribe((_, names) => this.#follow(names));
  }

  /** What is shown. Of a pane that was opened. */
  get choice() {
    return fitted(this.#wanted, this.#open.model);
  }

  /**
   * Which row of a map of tokens by tokens is shown; nothing for other maps.
   * @returns {Record<string, number | null>}
   */
  get slice() {
    if (!isMatrix(this.#map)) return {};
    const frame = this.#map.options.includes("frame") ? this.#desk.state.frame : null;
    return { token: this.#peek?.token ?? 0, frame };
  }

  /** The numbers that make up its scale, where those are its map's own. */
  get scaled() {
    return this.#numbers && !this.#peek ? this.#view.scaled(this.#numbers) : null;
  }

  /**
   * Show another input.
   * @param {Session} session
   * @param {import("./views.js").Media} media
   */
  async open(session, media) {
    const known = this.#session?.model === session.model;
    this.#session = session;
    this.#media = media;
    this.#views.clear();
    this.#numbers = null;
    if (!known) this.#wanted = firstChoice(session.model);
    await this.choose({});
  }

  /**
   * Show another part of a map, or another map.
   * @param {Partial<Choice>} wanted
   */
  async choose(wanted) {
    this.#wanted = { ...this.#wanted, ...wanted };
    this.#controls.show(this.choice, this.#open.model, this.#open.prediction.label);
    this.#description.textContent = this.#map.description;
    this.#changed();
    await this.load();
  }

  /** Fetch the numbers of what is chosen, and draw them. */
  async load() {
    this.#loading.abort();
    this.#loading = new AbortController();
    const { signal } = this.#loading;
    this.element.setAttribute("aria-busy", "true");
    try {
      const numbers = await this.#fetched(signal);
      if (signal.aborted) return;
      showProblem(this.#problem, null);
      this.#numbers = numbers;
      this.#peek = null;
      this.#mount();
      this.draw();
      this.#peer()?.draw();
      await this.#point();
    } catch (error) {
      if (isAbort(error)) return;
      this.#numbers = null;
      this.#place.replaceChildren();
      this.#legend.element.hidden = true;
      showProblem(this.#problem, error);
    } finally {
      if (!signal.aborted) this.element.removeAttribute("aria-busy");
    }
  }

  /** Draw what is there. */
  draw() {
    const numbers = this.#peek?.numbers ?? this.#numbers;
    if (!numbers) return;
    const { colormap, theme, alpha, smooth } = this.#desk.state;
    const view = this.#view;
    const kind = this.#peek ? this.#peek.kind : this.#map.kind;
    const scale = this.#scale(view.scaled(numbers), kind);
    const name = this.#colors.fitting(scale, colormap);
    const onText = view.onText === true;
    const table = onText ? this.#colors.ramp(name, theme) : this.#colors.table(name);
    if (onText) this.#colors.showRamp(name, theme);
    view.show(numbers, scale, { table, alpha, smooth }, kind);
    this.#legend.element.hidden = false;
    this.#legend.show(scale, table, this.#notes(kind));
    view.showFrame?.(this.#desk.state.frame);
    this.#mark();
  }

  /**
   * @param {ArrayLike<number>} own
   * @param {string} kind
   */
  #scale(own, kind) {
    const { scale, oneScale } = this.#desk.state;
    const fixed = this.#peek ? null : this.#map.fixed_range;
    const peer = this.#peer();
    const same = oneScale && !this.#peek && peer?.scaled && peer.choice.map === this.choice.map;
    return scaled(same && peer.scaled ? [own, peer.scaled] : [own], scale, this.#colors.usualScale(kind), fixed);
  }

  /**
   * What else there is to say of a drawing.
   * @param {string} kind
   */
  #notes(kind) {
    const view = this.#open.prediction.input.view;
    if (!view || !ON_PICTURES.includes(kind)) return [];
    const [left, top, right, bottom] = seenPart(view);
    const whole = left <= 0 && top <= 0 && right >= view.width && bottom >= view.height;
    return [...(this.#desk.state.smooth ? ["smooth"] : []), ...(whole ? [] : ["gray: not seen by the model"])];
  }

  /** @returns {Session} */
  get #open() {
    if (!this.#session) throw new Error("nothing was opened yet");
    return this.#session;
  }

  /** @returns {MapSummary} */
  get #map() {
    return mapNamed(this.#open.model, this.choice.map);
  }

  /** @returns {View} */
  get #view() {
    const kind = this.#map.kind === "channels" ? "channels" : "input";
    let view = this.#views.get(kind);
    if (!view) {
      const listener = {
        point: (/** @type {Place | null} */ place, /** @type {string} */ by) => this.#desk.point(place, by),
        pin: (/** @type {Place} */ place) => this.#desk.pin(place),
      };
      const setFrame = (/** @type {number} */ frame) => this.#desk.set({ frame });
      view = makeView({ kind, session: this.#open, media: this.#media, listener, setFrame });
      this.#views.set(kind, view);
    }
    return view;
  }

  #mount() {
    const shown = this.#view.element;
    if (this.#place.firstChild !== shown) this.#place.replaceChildren(shown);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<Numbers>}
   */
  async #fetched(signal) {
    const { choice } = this;
    if (!isMatrix(this.#map)) {
      const rest = `maps/${encodeURIComponent(choice.map)}.npy${query(choice)}`;
      return this.#open.numbers(rest, parseNpy, signal);
    }
    const place = { tokens: [0], frame: this.#desk.state.frame };
    const found = await row(this.#open, choice, place, signal);
    return /** @type {{numbers: Numbers}} */ (found).numbers; // the first token is always there
  }

  /** @param {string[]} names what has changed on the desk */
  #follow(names) {
    if (!this.#numbers) return;
    const pointed = names.includes("pointed") || names.includes("pinned");
    if (names.includes("frame")) this.#view.showFrame?.(this.#desk.state.frame);
    if (names.includes("frame") && this.#map.kind === "grid_matrix") void this.load();
    if (pointed || names.includes("frame")) void this.#point();
    if (names.some((name) => !["pointed", "pinned", "frame"].includes(name))) this.draw();
  }

  /** Show what the place that is pointed at, or held, attends to. */
  async #point() {
    this.#mark();
    this.#peeking.abort();
    this.#peeking = new AbortController();
    const { signal } = this.#peeking;
    try {
      const { place } = this.#desk;
      const view = this.#view;
      if (view.bars) {
        const bars = await frameBars(this.#open, this.choice, place, signal);
        if (bars && !signal.aborted) view.bars(bars.values, bars.caption);
      }
      const here = place?.x === undefined || place.frame === undefined || place.frame === this.#desk.state.frame;
      const peek = place && here ? await attended(this.#open, this.choice, place, signal) : null;
      if (signal.aborted || (peek === null && this.#peek === null)) return;
      this.#peek = peek;
      this.draw();
    } catch (error) {
      if (!isAbort(error)) this.#readout.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  #mark() {
    const { pointed, pinned, by } = this.#desk.state;
    const view = this.#view;
    const place = this.#desk.place && view.name(this.#desk.place) ? this.#desk.place : null;
    view.mark(pointed, pinned);
    const own = place && this.#numbers && !isMatrix(this.#map) ? view.describe(place, this.#numbers) : "";
    const seen = place && this.#peek ? `${view.name(place)} attends to ${view.highest(this.#peek.numbers)} (${this.#peek.of})` : "";
    const best = this.#numbers && !place ? `Highest: ${view.highest(this.#numbers)}` : "";
    this.#readout.replaceChildren(...[own, seen, best].filter(Boolean).map((line) => element("span", {}, line)));
    if (place && by === "keyboard") this.#announce([own, seen].filter(Boolean).join(". "));
  }
}
