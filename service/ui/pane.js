// @ts-check
/** One map on the input: what is chosen of it, its drawing, its legend, and what it says of a place. */

import { element } from "./element.js";
import { Controls } from "./controls.js";
import { seenPart } from "./geometry.js";
import { attended, frameBars, row } from "./attended.js";
import { Legend } from "./legend.js";
import { fitted, firstChoice, isMatrix, isOnPicture, mapNamed, numbersPath, PLAIN } from "./maps.js";
import { parseNpy } from "./npy.js";
import { Options } from "./options.js";
import { isAbort, showProblem } from "./problem.js";
import { refined } from "./refine.js";
import { scaled } from "./scale.js";
import { Views } from "./views.js";

/** @typedef {import("./colors.js").Colors} Colors */
/** @typedef {import("./layout.js").Layout} Layout */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */
/** @typedef {import("./npy.js").Numbers} Numbers */
/** @typedef {import("./refine.js").Refined} Refined */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./desk.js").Desk} Desk */
/** @typedef {import("./view.js").Place} Place */
/** @typedef {import("./views.js").View} View */

export class Pane {
  #controls = new Controls((wanted) => this.choose(wanted));
  #options = new Options((wanted) => this.choose(wanted));
  #description = element("p", { class: "description" });
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
  #views;
  /** @type {View | null} */
  #mounted = null;
  /** @type {Choice} what was chosen, for any map */
  #wanted = { ...PLAIN, map: "" };
  /** @type {Layout | null} of a text */
  #layout = null;
  /** @type {Refined | null} the map */
  #own = null;
  /** @type {(Refined & {of: string, kind: string, token: number}) | null} what the place that is pointed at attends to */
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
    this.#views = new Views({
      point: (place, by) => desk.point(place, by),
      pin: (place) => desk.pin(place),
      setFrame: (frame) => desk.set({ frame }),
    });
    this.element = element("section", { class: "pane", "aria-label": name });
    this.element.append(
      this.#controls.element,
      this.#options.element,
      this.#description,
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
    return this.#own && !this.#peek ? this.#view.scaled(this.#own.numbers) : null;
  }

  /**
   * Show another input.
   * @param {Session} session
   * @param {import("./views.js").Media} media
   */
  async open(session, media) {
    const known = this.#session?.model === session.model;
    this.#session = session;
    this.#views.open(session, media);
    this.#layout = null;
    this.#own = null;
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
    this.#options.show(this.choice, this.#map);
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
      const layout = await this.#views.layout(this.choice, signal);
      const numbers = await this.#fetched(signal);
      if (signal.aborted) return;
      this.#layout = layout;
      this.#own = refined(numbers, this.choice, this.#map.kind, layout);
      this.#peek = null;
      this.#mount();
      this.draw();
      this.#peer()?.draw();
      await this.#point();
    } catch (error) {
      if (isAbort(error)) return;
      this.#own = null;
      this.#legend.element.hidden = true;
      showProblem(this.#place, error);
    } finally {
      if (!signal.aborted) this.element.removeAttribute("aria-busy");
    }
  }

  /** Draw what is there. */
  draw() {
    const shown = this.#peek ?? this.#own;
    if (!shown) return;
    const { colormap, theme, alpha, smooth } = this.#desk.state;
    const view = this.#view;
    const kind = this.#peek ? this.#peek.kind : this.#map.kind;
    const scale = this.#scale(view.scaled(shown.numbers), kind);
    const name = this.#colors.fitting(scale, colormap);
    const onText = view.onText === true;
    const table = onText ? this.#colors.ramp(name, theme) : this.#colors.table(name);
    const ramp = onText ? this.#colors.rampClass(name, theme) : "";
    view.show(shown.numbers, scale, { table, alpha, smooth, ramp }, kind);
    this.#legend.element.hidden = false;
    this.#legend.show(scale, table, [...shown.notes, ...this.#notes(kind)]);
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
    if (!view || !isOnPicture(kind)) return [];
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

  /** @returns {View} of a map that was loaded */
  get #view() {
    return /** @type {View} */ (this.#mounted);
  }

  /** Put the view of what was loaded into its place. */
  #mount() {
    this.#mounted = this.#views.of(this.#map.kind, this.#layout);
    const shown = this.#mounted.element;
    if (this.#place.firstChild !== shown) this.#place.replaceChildren(shown);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<Numbers>}
   */
  async #fetched(signal) {
    const { choice } = this;
    if (!isMatrix(this.#map)) return this.#open.numbers(numbersPath(choice), parseNpy, signal);
    const place = { tokens: [0], frame: this.#desk.state.frame };
    const found = await row(this.#open, choice, place, signal);
    return /** @type {{numbers: Numbers}} */ (found).numbers; // the first token is always there
  }

  /** @param {string[]} names what has changed on the desk */
  #follow(names) {
    if (!this.#own) return;
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
      const place = this.#looked;
      const view = this.#view;
      if (view.bars) {
        const bars = await frameBars(this.#open, this.choice, this.#own, place, signal);
        if (bars && !signal.aborted) view.bars(bars.values, bars.caption);
      }
      const here = place?.x === undefined || place.frame === undefined || place.frame === this.#desk.state.frame;
      const peek = place && here ? await attended(this.#open, this.choice, place, signal) : null;
      if (signal.aborted || (peek === null && this.#peek === null)) return;
      this.#peek = peek && { ...peek, ...refined(peek.numbers, this.choice, peek.kind, this.#layout) };
      this.draw();
    } catch (error) {
      if (!isAbort(error)) this.#readout.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  /** The place that is looked at, where this pane has it. */
  get #looked() {
    const { place } = this.#desk;
    return place && this.#view.name(place) ? place : null;
  }

  #mark() {
    const { pointed, pinned, by } = this.#desk.state;
    const view = this.#view;
    const place = this.#looked;
    view.mark(pointed, pinned);
    const own = place && this.#own && !isMatrix(this.#map) ? view.describe(place, this.#own.numbers) : "";
    const seen = place && this.#peek ? `${view.name(place)} attends to ${view.highest(this.#peek.numbers)} (${this.#peek.of})` : "";
    const best = this.#own && !place ? `Highest: ${view.highest(this.#own.numbers)}` : "";
    this.#readout.replaceChildren(...[own, seen, best].filter(Boolean).map((line) => element("span", {}, line)));
    if (place && by === "keyboard") this.#announce([own, seen].filter(Boolean).join(". "));
  }
}
