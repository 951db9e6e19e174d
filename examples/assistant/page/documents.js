// Which documents count: for everybody, for me, in this conversation; the narrowest that says wins.

import { API, get, put, remove } from "./api.js";
import { h, say, select, trying } from "./dom.js";

const CHOICES = [["", "no choice"], ["on", "on"], ["off", "off"]];
const DECIDED = { system: "for everybody", user: "your choice", conversation: "your choice here" };
const named = (flag) => flag === null ? "" : flag ? "on" : "off";

export async function documents(state) {
  const conversation = state.conversation &&
    await get(`${API}/conversations/${state.conversation}`).catch(() => null);
  if (!conversation) state.conversation = null;
  const body = h("tbody");
  const count = h("p", { class: "note", role: "status" });
  const more = h("button", { type: "button", hidden: true });
  const filter = h("input", { type: "search", "aria-label": "Filter by name", autofocus: true,
    placeholder: "Filter by name…" });
  let waiting;
  let latest = 0;
  async function load(after) {
    const mine = ++latest;
    const query = new URLSearchParams({ limit: 50, ...(after ? { after } : {}) });
    if (filter.value.trim()) query.set("search", filter.value.trim());
    if (state.conversation) query.set("conversation_id", state.conversation);
    const page = await get(`${API}/documents?${query}`);
    if (mine !== latest) return;
    if (!after) body.replaceChildren();
    body.append(...page.documents.map((each) => row(state, each)));
    if (!after && page.total !== null) {
      count.textContent = page.total === 1 ? "1 document" : `${page.total} documents`;
    }
    more.hidden = !page.next;
    more.textContent = "Show more";
    more.onclick = trying(() => load(page.next));
  }
  filter.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(trying(() => load()), 150);
  });
  await load();
  const where = conversation ? `“${conversation.title || "Untitled"}”` : "none is open";
  return [h("section", { class: "page wide" }, h("h1", {}, "Documents"),
    h("p", { class: "lead" }, "A choice for a conversation goes before yours, and yours before " +
      "everybody's. Answers use what is on."),
    h("div", { class: "row" }, filter, count),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Documents" },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Document"),
        h("th", { scope: "col" }, "Everybody", h("small", {}, state.isAdmin ? "you decide" : "admin")),
        h("th", { scope: "col" }, "For me", h("small", {}, "all conversations")),
        h("th", { scope: "col" }, "This conversation", h("small", {}, where)),
        h("th", { scope: "col" }, "Used"))), body)),
    more)];
}

function row(state, document) {
  const name = document.display_name;
  const made = h("tr", { "data-document": name });
  const change = (path) => trying(async ({ currentTarget: control }) => {
    const wanted = control.value;
    try {
      if (wanted) {
        await put(path, { choices: [{ document: document.resource_hash, enabled: wanted === "on" }] });
      } else {
        await remove(`${path}?document=${encodeURIComponent(document.resource_hash)}`);
      }
    } finally {
      const suffix = state.conversation ? `?conversation_id=${state.conversation}` : "";
      const fresh = await get(`${API}/documents/${encodeURIComponent(document.resource_hash)}${suffix}`);
      const column = [...made.querySelectorAll("select")].indexOf(control);
      const next = row(state, fresh);
      made.replaceWith(next);
      next.querySelectorAll("select")[column].focus();
      say(`${name} is ${fresh.effective ? "on" : "off"}.`);
    }
  });
  const tier = (label, value, path, options, disabled) => h("td", {},
    select(options, value, { "aria-label": `${label}: ${name}`, "data-value": value || "none",
      disabled, onchange: change(path) }));
  const chunks = document.status === "embedded" ? `${document.chunk_count} passage${document.chunk_count === 1 ? "" : "s"}` : document.status;
  made.append(
    h("th", { scope: "row" }, name, h("small", {}, document.error || chunks)),
    tier("For everybody", named(document.enabled), `${API}/selection/system`, CHOICES.slice(1),
      !state.isAdmin),
    tier("For me", named(document.user_default), `${API}/selection/user`, CHOICES),
    tier("In this conversation", named(document.conversation_override),
      `${API}/selection/conversations/${state.conversation}`, CHOICES, !state.conversation),
    h("td", {}, h("span", { class: `tag ${document.effective ? "good" : "bad"}` },
      document.effective ? "on" : "off"),
    h("small", {}, DECIDED[document.decided_by])));
  return made;
}
