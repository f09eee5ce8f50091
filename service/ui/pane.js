// @ts-check
/** One map on the input: what is chosen of it, its drawing, its legend, and what it says of a place. */

import { element } from "./element.js";
import { Controls } from "./controls.js";
import { seenPart } from "./geometry.js";
import { attended, frameBars } from "./attended.js";
import { Legend } from "./legend.js";
import { loaded } from "./loaded.js";
import { fitted, firstChoice, isMatrix, isOnPicture, mapNamed, PLAIN } from "./maps.js";
import { Options } from "./options.js";
import { isAbort, showProblem } from "./problem.js";
import { refined } from "./refine.js";
import { scaled } from "./scale.js";
import { samePlace } from "./view.js";
import { Views } from "./views.js";

/** @typedef {import("./colors.js").Colors} Colors */
/** @typedef {import("./loaded.js").Loaded} Loaded */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./maps.js").MapSummary} MapSummary */
/** @typedef {import("./refine.js").Refined} Refined */
/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./desk.js").Desk} Desk */

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
  /** @type {Choice} what was chosen, for any map */
  #wanted = { ...PLAIN, map: "" };
  /** @type {Loaded | null} the map, which may not be the chosen one yet */
  #own = null;
  /** @type {(Refined & {of: string, kind: string, tokens: number[]}) | null} what the place that is pointed at attends to */
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
   * Which row of a map of tokens by tokens is shown; nothing for other maps, null for a mean of rows.
   * @returns {Record<string, number | null> | null}
   */
  get slice() {
    if (!isMatrix(this.#map)) return {};
    const frame = this.#map.options.includes("frame") ? this.#desk.state.frame : null;
    const [token, ...more] = this.#peek?.tokens ?? [0];
    return more.length ? null : { token, frame };
  }

  /** The name of the map that is drawn, and the numbers that make up its scale, where those are the map's own. */
  get scaled() {
    if (!this.#own || this.#peek) return null;
    const { map, view, numbers } = this.#own;
    return { map: map.name, numbers: view.scaled(numbers) };
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
    if (!known) this.#wanted = firstChoice(session.model);
    await this.choose({});
  }

  /** Let go of what is shown: it is drawn no more. */
  close() {
    this.#loading.abort();
    this.#peeking.abort();
    this.#own?.view.pause?.();
    this.#own = null;
    this.#peek = null;
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
      const own = await loaded(this.#open, this.#views, this.choice, this.#desk.state.frame, signal);
      if (signal.aborted) return;
      this.#own = own;
      this.#peek = null;
      const shown = own.view.element;
      if (this.#place.firstChild !== shown) this.#place.replaceChildren(shown);
      this.draw();
      this.#peer()?.draw();
      await this.#point();
    } catch (error) {
      if (isAbort(error)) return;
      this.close();
      this.#legend.element.hidden = true;
      this.#readout.replaceChildren();
      showProblem(this.#place, error);
    } finally {
      if (signal === this.#loading.signal) this.element.removeAttribute("aria-busy");
    }
  }

  /** Draw what is there. */
  draw() {
    if (!this.#own) return;
    const { map, view } = this.#own;
    const shown = this.#peek ?? this.#own;
    const { colormap, theme, alpha, smooth } = this.#desk.state;
    const kind = this.#peek ? this.#peek.kind : map.kind;
    const scale = this.#scale(view.scaled(shown.numbers), kind, map);
    const name = this.#colors.fitting(scale, colormap);
    const onText = view.onText === true;
    const table = onText ? this.#colors.ramp(name, theme) : this.#colors.table(name);
    const ramp = onText ? this.#colors.rampClass(name, theme) : "";
    view.show(shown.numbers, scale, { table, alpha, smooth, ramp }, kind);
    this.#legend.element.hidden = false;
    this.#legend.show(scale, table, [...shown.notes, ...this.#notes(kind)]);
    view.showFrame?.(this.#desk.state.frame);
    this.#mark(this.#own);
  }

  /**
   * @param {ArrayLike<number>} own
   * @param {string} kind
   * @param {MapSummary} map
   */
  #scale(own, kind, map) {
    const { scale, oneScale } = this.#desk.state;
    const fixed = this.#peek ? null : map.fixed_range;
    const other = oneScale && !this.#peek ? this.#peer()?.scaled : null;
    const all = other?.map === map.name ? [own, other.numbers] : [own];
    return scaled(all, scale, this.#colors.usualScale(kind), fixed);
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

  /** @returns {MapSummary} the chosen one */
  get #map() {
    return mapNamed(this.#open.model, this.choice.map);
  }

  /** @param {string[]} names what has changed on the desk */
  #follow(names) {
    if (!this.#own) return;
    const pointed = names.includes("pointed") || names.includes("pinned");
    if (names.includes("frame")) this.#own.view.showFrame?.(this.#desk.state.frame);
    if (names.includes("frame") && this.#map.kind === "grid_matrix") void this.load();
    if (pointed || names.includes("frame")) void this.#point();
    if (names.some((name) => !["pointed", "pinned", "frame"].includes(name))) this.draw();
  }

  /** Show what the place that is pointed at, or held, attends to. */
  async #point() {
    this.#peeking.abort();
    if (!this.#own) return;
    const own = this.#own;
    const { choice, layout, map, view } = own;
    this.#mark(own);
    this.#peeking = new AbortController();
    const { signal } = this.#peeking;
    try {
      const place = this.#looked(own);
      if (view.bars) {
        const bars = await frameBars(this.#open, choice, own, place, signal);
        if (bars && !signal.aborted) view.bars(bars.values, bars.caption);
      }
      const here = place?.x === undefined || place.frame === undefined || place.frame === this.#desk.state.frame;
      const query = place && { ...place, tokens: view.tokens?.(place) };
      const peek = query && here ? await attended(this.#open, choice, query, signal) : null;
      if (signal.aborted || (peek === null && this.#peek === null)) return;
      this.#peek = peek && { ...peek, ...refined(peek.numbers, choice, peek.kind, layout) };
      this.draw();
      // What is held is what can be taken along, and how many tokens it has is known only now.
      if (isMatrix(map) && samePlace(place, this.#desk.state.pinned)) this.#changed();
    } catch (error) {
      if (!isAbort(error)) this.#readout.textContent = error instanceof Error ? error.message : String(error);
    }
  }

  /**
   * The place that is looked at, where this pane has it.
   * @param {Loaded} own
   */
  #looked({ view }) {
    const { place } = this.#desk;
    return place && view.name(place) ? place : null;
  }

  /** @param {Loaded} loaded */
  #mark(loaded) {
    const { map, view, numbers } = loaded;
    const { pointed, pinned, by } = this.#desk.state;
    const place = this.#looked(loaded);
    view.mark(pointed, pinned);
    const own = place && !isMatrix(map) ? view.describe(place, numbers) : "";
    const seen = place && this.#peek ? `${view.name(place)} attends to ${view.highest(this.#peek.numbers)} (${this.#peek.of})` : "";
    const best = place ? "" : `Highest: ${view.highest(numbers)}`;
    this.#readout.replaceChildren(...[own, seen, best].filter(Boolean).map((line) => element("span", {}, line)));
    if (place && by === "keyboard") this.#announce([own, seen].filter(Boolean).join(". "));
  }
}
