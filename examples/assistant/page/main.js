// Who is here, which view is shown, and light or dark.

import { API, get, post, put, remove } from "./api.js";
import { field, h, say, trying } from "./dom.js";
import { chat } from "./chat.js";
import { compare } from "./compare.js";
import { documents } from "./documents.js";
import { settings } from "./settings.js";
import { you } from "./you.js";

const views = { chat, compare, documents, settings, you };
const themes = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
const main = document.getElementById("main");

export const state = { user: null, isAdmin: false, conversation: null };

function show(theme) {
  document.documentElement.dataset.theme = theme;
  const [sign, name] = themes[theme];
  const button = document.getElementById("theme");
  button.textContent = sign;
  button.setAttribute("aria-label", `Theme: ${name}`);
  button.title = `Theme: ${name}`;
}

async function nextTheme() {
  const names = Object.keys(themes);
  const now = document.documentElement.dataset.theme;
  const theme = names[(names.indexOf(now) + 1) % names.length];
  show(theme);
  say(`Theme: ${themes[theme][1]}`);
  if (state.user) await put(`${API}/user/profile`, { preferences: { theme } });
}

function signIn() {
  const name = h("input", { name: "name", required: true, maxlength: 60, autocomplete: "username",
    pattern: "[\\p{L}\\p{N}_][\\p{L}\\p{N}_ .@\\-]*" });
  const form = h("form", { class: "card narrow", onsubmit: trying(async () => {
    await post("/assistant/session", { name: name.value });
    await start();
  }) },
    h("h1", {}, "Ask your documents"),
    h("p", {}, "Answers come from the folder that was indexed on this machine, with their sources."),
    field("Your name", name),
    h("button", { class: "primary" }, "Continue"),
    h("p", { class: "note" }, "A demonstration: whoever gives a name is believed, and who comes " +
      "first is the administrator. Put a real login in its place before others can reach it."));
  main.replaceChildren(form);
  name.focus();
}

let latest = 0;
async function route(focus = true) {
  if (!state.user) return signIn();
  const [, view, argument] = location.hash.split("/");
  const name = view in views ? view : "chat";
  for (const link of document.querySelectorAll("#views a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const mine = ++latest;
  try {
    const shown = await views[name](state, argument);
    if (mine !== latest) return undefined; // somebody clicked on meanwhile
    main.dataset.view = name;
    main.replaceChildren(...shown);
    document.title = `${name[0].toUpperCase()}${name.slice(1)} · Assistant`;
    if (focus && name !== "chat") main.focus({ preventScroll: true });
    main.querySelector("[autofocus]")?.focus();
  } catch (error) {
    if (error.status === 401) { state.user = null; return signIn(); }
    main.replaceChildren(h("p", { class: "card", role: "alert" }, error.message));
  }
  return undefined;
}

async function start() {
  const session = await get("/assistant/session");
  Object.assign(state, { user: session.user_id, isAdmin: session.is_admin });
  document.getElementById("views").hidden = !state.user;
  document.querySelector("[data-admin]").hidden = !state.isAdmin;
  document.getElementById("who").replaceChildren(...(state.user ? [
    h("span", { class: "name" }, state.user),
    state.isAdmin ? h("span", { class: "tag" }, "admin") : "",
    h("button", { type: "button", class: "quiet", onclick: trying(async () => {
      await remove("/assistant/session");
      state.conversation = null;
      location.hash = "#/chat";
      await start();
    }) }, "Sign out"),
  ] : []));
  if (state.user) {
    const profile = await get(`${API}/user/profile`);
    show(profile.preferences.theme || "system");
  }
  await route(false);
}

document.getElementById("theme").addEventListener("click", trying(nextTheme));
window.addEventListener("hashchange", () => { if (location.hash.startsWith("#/")) route(); });
show("system");
trying(start)();
