// One question, two settings: which answer is better is said before it is known which is which.

import { API, get, post } from "./api.js";
import { field, h, say, select, trying } from "./dom.js";
import { open } from "./chat.js";
import { sources, words } from "./answer.js";

const SEARCHES = [["hybrid", "Meaning and words"], ["semantic", "Meaning"], ["bm25", "Words (BM25)"]];

function setting(letter, search, models) {
  const controls = {
    search: select(SEARCHES, search),
    k: h("input", { type: "number", min: 1, max: 100, value: 5, required: true }),
    model: select(models.map((each) => [each, each]), models[0]),
  };
  const box = h("fieldset", {}, h("legend", {}, `Setting ${letter}`),
    field("Search by", controls.search), field("Passages", controls.k),
    field("Answered by", controls.model));
  const value = () => ({ search: controls.search.value, k: Number(controls.k.value),
    model: controls.model.value });
  return { box, value };
}

export async function compare(state) {
  const { available_models: models } = await get(`${API}/config/static`);
  const a = setting("A", "hybrid", models);
  const b = setting("B", "bm25", models);
  const text = h("input", { required: true, maxlength: 10000, autofocus: true,
    placeholder: "The same question for both…" });
  const shown = h("div", { "aria-live": "polite" });
  const button = h("button", { class: "primary" }, "Ask both");
  const form = h("form", { class: "card", onsubmit: trying(async () => {
    button.disabled = true;
    try {
      const id = await open(state, text.value);
      const body = { content: text.value, a: a.value(), b: b.value() };
      shown.replaceChildren(side(await post(`/assistant/conversations/${id}/trials`, body)));
    } finally {
      button.disabled = false;
    }
  }) },
    h("div", { class: "two" }, a.box, b.box), field("Question", text), button);
  return [h("section", { class: "page" }, h("h1", {}, "Compare two settings"),
    h("p", { class: "lead" }, "The answers come unlabelled and in random order. Vote first, then " +
      "see which setting gave which."), form, shown)];
}

function side(made) {
  const order = made.is_config_a_first ? ["a", "b"] : ["b", "a"];
  const cards = order.map((key, place) => {
    const label = place ? "Right" : "Left";
    return { key, label, name: h("h2", {}, label) };
  });
  const vote = (preference) => trying(async () => {
    await post(`${API}/comparisons/${made.comparison_id}/vote`, { preference });
    for (const { key, name, label } of cards) {
      const by = made[key];
      name.replaceChildren(label, h("span", { class: "tag" },
        `${key.toUpperCase()} · ${by.pipeline_used} · ${by.model_used}`),
      preference === key ? h("span", { class: "tag good" }, "your choice") : "");
    }
    buttons.replaceChildren(h("p", {}, "Thank you. The vote is kept, and counted in the analytics."));
    say("Your vote is kept.");
  });
  const buttons = h("div", { class: "row vote", role: "group", "aria-label": "Which is better?" },
    h("button", { type: "button", onclick: vote(cards[0].key) }, "← Left is better"),
    h("button", { type: "button", onclick: vote("tie") }, "A tie"),
    h("button", { type: "button", onclick: vote(cards[1].key) }, "Right is better →"));
  return h("div", {}, h("div", { class: "two" }, cards.map(({ key, name }) =>
    h("article", { class: "card answer", "data-side": key }, name, words(made[key]),
      sources(made[key])))), buttons);
}
