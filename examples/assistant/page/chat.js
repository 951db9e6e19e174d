// Conversations: the list of them, and the one that is open.

import { API, get, post, remove } from "./api.js";
import { h, trying } from "./dom.js";
import { bubble } from "./answer.js";

export const titled = (question) => question.length > 70 ? `${question.slice(0, 69)}…` : question;

export async function open(state, question) {
  if (!state.conversation) {
    const made = await post(`${API}/conversations`, { title: titled(question) });
    state.conversation = made.conversation_id;
  }
  return state.conversation;
}

export async function chat(state, argument) {
  if (argument === "new") state.conversation = null;
  else if (argument) state.conversation = Number(argument) || null;
  const here = location.hash;
  const listed = (await get(`${API}/conversations?limit=30`)).conversations;
  if (location.hash !== here) return []; // gone elsewhere meanwhile, which is not to be undone
  if (!argument && !state.conversation && listed.length) {
    state.conversation = listed[0].conversation_id;
  }
  const log = h("div", { class: "log", role: "log", "aria-live": "polite", "aria-label": "Messages" });
  if (state.conversation) await fill(log, state.conversation);
  if (!log.children.length) log.append(welcome());
  setTimeout(() => log.lastElementChild?.scrollIntoView({ block: "end" }));
  return [aside(state, listed), h("section", { class: "chat", "aria-label": "Conversation" },
    log, asking(state, log))];
}

function welcome() {
  return h("div", { class: "welcome" },
    h("h1", {}, "What would you like to know?"),
    h("p", {}, "Answers are sentences of your documents, each with its source. Which documents " +
      "count is yours to choose, under ", h("a", { href: "#/documents" }, "Documents"), "."));
}

function aside(state, listed) {
  return h("aside", { class: "side", "aria-label": "Conversations" },
    h("a", { class: "button primary", href: "#/chat/new" }, "New conversation"),
    h("ul", {}, listed.map((each) => h("li", {},
      h("a", { href: `#/chat/${each.conversation_id}`,
        "aria-current": each.conversation_id === state.conversation ? "true" : null },
      each.title || "Untitled"),
      h("button", { type: "button", class: "quiet", "aria-label": `Delete ${each.title || "it"}`,
        title: "Delete", onclick: trying(async () => {
          await remove(`${API}/conversations/${each.conversation_id}`);
          if (state.conversation === each.conversation_id) state.conversation = null;
          if (location.hash === "#/chat") dispatchEvent(new HashChangeEvent("hashchange"));
          else location.hash = "#/chat";
        }) }, "×")))));
}

async function fill(log, id) {
  const [messages, answers, comparisons] = await Promise.all([
    get(`${API}/conversations/${id}/messages?limit=200`),
    get(`/assistant/conversations/${id}/answers`),
    get(`${API}/conversations/${id}/comparisons`),
  ]);
  const known = new Map(answers.map((each) => [each.message_id, each]));
  const rivals = new Map(comparisons.flatMap((each) => [
    [each.response_a_message_id, ["A", each]], [each.response_b_message_id, ["B", each]]]));
  for (const each of messages) {
    const answer = known.get(each.message_id);
    if (!answer) { log.append(asked(each.content)); continue; }
    const shown = bubble(answer, each.reaction);
    const [side, comparison] = rivals.get(each.message_id) || [];
    if (side) {
      const won = comparison.preference === side.toLowerCase() ? " · preferred" : "";
      shown.prepend(h("span", { class: "tag" }, `Comparison, answer ${side}${won}`));
    }
    log.append(shown);
  }
}

const asked = (text) => h("article", { class: "question", "aria-label": "Question" }, text);

function asking(state, log) {
  const text = h("textarea", { rows: 1, required: true, maxlength: 10000, autofocus: true,
    "aria-label": "Your question", placeholder: "Ask a question…",
    oninput: () => { text.style.height = "auto"; text.style.height = `${text.scrollHeight}px`; },
    onkeydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    } });
  const send = h("button", { class: "primary" }, "Ask");
  const form = h("form", { class: "ask", onsubmit: trying(async () => {
    const content = text.value.trim();
    if (!content || send.disabled) return;
    const isNew = !state.conversation;
    send.disabled = true;
    log.querySelector(".welcome")?.remove();
    const thinking = h("p", { class: "thinking" }, "Looking it up…");
    const question = asked(content);
    log.append(question, thinking);
    thinking.scrollIntoView({ block: "end" });
    try {
      const id = await open(state, content);
      if (isNew) history.replaceState(null, "", `#/chat/${id}`);
      const { answer } = await post(`/assistant/conversations/${id}/answers`, { content });
      text.value = "";
      text.style.height = "auto";
      log.append(bubble(answer));
      question.scrollIntoView({ block: "start" });
      if (isNew) {
        const listed = (await get(`${API}/conversations?limit=30`)).conversations;
        if (form.isConnected) document.querySelector(".side").replaceWith(aside(state, listed));
      }
    } catch (error) {
      question.remove();
      throw error;
    } finally {
      thinking.remove();
      send.disabled = false;
      text.focus();
    }
  }) }, text, send);
  return form;
}
