// @ts-check
/** Light and dark: as the system has it, until the switch says otherwise. */

/** @typedef {import("./colors.js").Theme} Theme */

const NAMES = ["auto", "light", "dark"];
const KEPT = "regard-theme";

export class ThemeSwitch {
  #button;
  #system = matchMedia("(prefers-color-scheme: dark)");
  #name = localStorage.getItem(KEPT) ?? "auto";

  /** @param {HTMLButtonElement} button */
  constructor(button) {
    this.#button = button;
    this.#show();
  }

  /** @returns {Theme} */
  get theme() {
    if (this.#name === "light" || this.#name === "dark") return this.#name;
    return this.#system.matches ? "dark" : "light";
  }

  /**
   * Say when the theme changes.
   * @param {(theme: Theme) => void} changed
   */
  follow(changed) {
    this.#button.addEventListener("click", () => {
      this.#name = NAMES[(NAMES.indexOf(this.#name) + 1) % NAMES.length];
      localStorage.setItem(KEPT, this.#name);
      this.#show();
      changed(this.theme);
    });
    this.#system.addEventListener("change", () => changed(this.theme));
  }

  #show() {
    document.documentElement.dataset.theme = this.#name;
    this.#button.textContent = `Theme: ${this.#name}`;
  }
}
