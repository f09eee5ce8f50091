// @ts-check
/** How all maps are coloured. */

import { byId, choice, element } from "./element.js";

/** @typedef {import("./colors.js").Colors} Colors */
/** @typedef {import("./desk.js").Desk} Desk */

/**
 * Fill the controls of the page that say how maps are coloured.
 * @param {Desk} desk
 * @param {Colors} colors
 */
export function fillLook(desk, colors) {
  const named = (/** @type {string[]} */ names) =>
    /** @type {[string, string][]} */ ([["", "automatic"], ...names.map((name) => [name, name])]);
  const alpha = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: desk.state.alpha });
  alpha.addEventListener("input", () => desk.set({ alpha: Number(alpha.value) }));
  const smooth = element("input", { type: "checkbox" });
  smooth.addEventListener("change", () => desk.set({ smooth: smooth.checked }));
  const oneScale = element("input", { type: "checkbox", checked: true });
  oneScale.addEventListener("change", () => desk.set({ oneScale: oneScale.checked }));
  byId("look", HTMLElement).append(
    choice("Colours", named(colors.names), desk.state.colormap, (colormap) => desk.set({ colormap })),
    choice("Scale", named(colors.scales), desk.state.scale, (scale) => desk.set({ scale })),
    element("label", { class: "choice pictures" }, element("span", {}, "Opacity"), alpha),
    element("label", { class: "tick pictures" }, smooth, element("span", {}, "Smooth")),
    element("label", { class: "tick compared" }, oneScale, element("span", {}, "One scale")),
  );
}
