// @ts-check
/** What can be taken along: the map as a file, and the commands that ask for it. */

import { mapCommand, predictCommand } from "./curl.js";
import { byId, element } from "./element.js";
import { isOnPicture, mapNamed, mapPath } from "./maps.js";
import { showProblem } from "./problem.js";

/** @typedef {import("./api.js").Api} Api */
/** @typedef {import("./desk.js").Desk} Desk */
/** @typedef {import("./maps.js").Choice} Choice */
/** @typedef {import("./session.js").Session} Session */

const PIXELS = ["png", "webp"];
const PICTURES = [...PIXELS, "svg", "html"];
const MEAN = "This is the mean of several tokens' rows, which no file holds. A single token's row can be taken along.";

export class Take {
  #files = byId("files", HTMLElement);
  #commands = byId("commands", HTMLElement);
  #problem = byId("take-problem", HTMLElement);
  #api;
  #desk;
  #announce;

  /**
   * @param {object} of
   * @param {Api} of.api
   * @param {Desk} of.desk
   * @param {(text: string) => void} of.announce
   */
  constructor({ api, desk, announce }) {
    this.#api = api;
    this.#desk = desk;
    this.#announce = announce;
  }

  /**
   * @param {Session} session
   * @param {Choice} choice
   * @param {Record<string, number | null> | null} slice of the map; null where the server has no such one
   */
  show(session, choice, slice) {
    const map = mapNamed(session.model, choice.map);
    const { origin } = location;
    const first = map.formats.find((format) => PICTURES.includes(format)) ?? "npy";
    const { hasKey } = this.#api;
    this.#commands.replaceChildren(
      this.#command("Ask for the prediction", predictCommand(session, choice, origin, hasKey)),
    );
    if (!slice) {
      this.#files.replaceChildren(element("span", { class: "note" }, MEAN));
      return;
    }
    /** @type {(format: string) => Record<string, string | number | null>} */
    const options = (format) => ({ ...this.#drawing(format, map.kind, session.model.family), ...slice });
    this.#files.replaceChildren(
      ...map.formats.map((format) => this.#link(session, mapPath(choice, format, options(format)), `${choice.map}.${format}`)),
    );
    this.#commands.append(
      this.#command("Fetch this map", mapCommand(session, choice, first, options(first), origin, hasKey)),
    );
  }

  /**
   * How the map is drawn, for formats that are drawings.
   * @param {string} format
   * @param {string} kind of the map
   * @param {string} family of the model
   * @returns {Record<string, string | number | null>}
   */
  #drawing(format, kind, family) {
    const { colormap, scale, alpha, smooth, frame } = this.#desk.state;
    if (!PICTURES.includes(format)) return {};
    if (!PIXELS.includes(format) || !isOnPicture(kind)) return { colormap, scale };
    const under = family === "video" && kind === "grid" ? frame : null; // a map without frames lies on this one
    return { colormap, scale, alpha, smooth: smooth ? "true" : null, frame: under };
  }

  /**
   * @param {Session} session
   * @param {string} rest where the map is
   * @param {string} name of the file
   */
  #link(session, rest, name) {
    const format = name.slice(name.lastIndexOf(".") + 1).toUpperCase();
    const link = element("a", { href: session.path(rest), download: name, class: "file" }, format);
    link.addEventListener("click", async (event) => {
      event.preventDefault(); // a link sends no key, and does not notice that a prediction has gone
      try {
        showProblem(this.#problem, null);
        save(await (await session.fetch(rest)).blob(), name);
      } catch (error) {
        showProblem(this.#problem, error);
      }
    });
    return link;
  }

  /**
   * @param {string} name
   * @param {string} command
   */
  #command(name, command) {
    const copy = element("button", { type: "button", class: "quiet", "aria-label": `Copy: ${name}` }, "Copy");
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command);
        this.#announce("Copied.");
        copy.textContent = "Copied";
        setTimeout(() => (copy.textContent = "Copy"), 1500);
      } catch {
        this.#announce("The browser does not let the page copy; select the text instead.");
      }
    });
    const head = element("div", { class: "command-head" }, element("span", {}, name), copy);
    return element("div", { class: "command" }, head, element("pre", { tabindex: 0 }, element("code", {}, command)));
  }
}

/**
 * @param {Blob} data
 * @param {string} name
 */
function save(data, name) {
  const address = URL.createObjectURL(data);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
