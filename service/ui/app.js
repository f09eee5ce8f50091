// @ts-check
/** The page: a model, an input, and one or two maps on it. */

import { Api } from "./api.js";
import { Colors } from "./colors.js";
import { Desk } from "./desk.js";
import { byId } from "./element.js";
import { Explorer } from "./explorer.js";
import { InputCard } from "./input-card.js";
import { askKey } from "./key-dialog.js";
import { fillLook } from "./look.js";
import { Models } from "./models.js";
import { isAbort, showProblem } from "./problem.js";
import { Session } from "./session.js";
import { ThemeSwitch } from "./theme.js";

/** @typedef {import("./session.js").Input} Input */

const form = byId("ask", HTMLFormElement);
const problem = byId("ask-problem", HTMLElement);
const status = byId("status", HTMLElement);

/** @param {string} text for those who cannot see the page change */
function announce(text) {
  status.textContent = text;
}

async function start() {
  const waiting = (/** @type {number} */ seconds) => announce(`The server is busy; asking again in ${seconds} s.`);
  const api = new Api({ askKey, waiting });
  const addresses = ["/ui/colors.json", "/ui/examples/examples.json", "/v1/models"];
  const [palette, examples, served] = await Promise.all(addresses.map((address) => api.json(address)));
  const colors = new Colors(palette);
  const theme = new ThemeSwitch(byId("theme", HTMLButtonElement));
  const desk = new Desk({
    colormap: "",
    scale: "",
    alpha: 0.5,
    smooth: false,
    theme: theme.theme,
    oneScale: true,
    pointed: null,
    pinned: null,
    by: "pointer",
    frame: 0,
  });
  theme.follow((name) => desk.set({ theme: name }));
  const explorer = new Explorer({ api, colors, desk, announce });
  const models = new Models(api, byId("model", HTMLSelectElement), (model) => {
    card.show(model);
    explorer.clear();
    showProblem(problem, null);
    asking.abort();
    asked = null;
    form.removeAttribute("aria-busy");
  });
  let asking = new AbortController();
  /** @type {Input | null} what was asked of this model last, answered or not */
  let asked = null;

  /** @param {Input} input */
  const ask = async (input) => {
    asked = input;
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    const { model } = models;
    form.setAttribute("aria-busy", "true");
    showProblem(problem, null);
    announce("Asking …");
    try {
      const maps = explorer.maps(model);
      const { verify } = card;
      const answer = await Session.ask(api, model, input, maps, verify, signal);
      const session = new Session({ api, model, input, maps, verify, answer, renewed: () => explorer.renew() });
      await explorer.open(session, signal);
      if (!signal.aborted) announce(explorer.summary);
    } catch (error) {
      if (isAbort(error)) return;
      announce("");
      showProblem(problem, error);
    } finally {
      if (!signal.aborted) form.removeAttribute("aria-busy");
    }
  };

  const card = new InputCard({
    ask: async (input, family) => {
      try {
        await models.settled;
        if (family !== models.model.family) await models.chooseFamily(family);
        card.name(input);
        await ask(input);
      } catch (error) {
        showProblem(problem, error);
      }
    },
    changed: () => {
      if (asked) void ask(asked);
    },
    failed: (error) => showProblem(problem, error),
  });
  card.examples = examples;
  fillLook(desk, colors);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) desk.release();
  });
  await models.load(served.models);
  document.documentElement.dataset.ready = "";
}

start().catch((error) => showProblem(problem, error));
