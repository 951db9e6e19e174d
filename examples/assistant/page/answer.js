// An answer with its sources and what people think of it.

import { API, get, post, remove } from "./api.js";
import { h, moment, say, trying } from "./dom.js";

// Text with [1] made into a link to its source.
function cited(text, answer) {
  return text.split(/(\[\d+\])/).map((part) => {
    const number = Number(/^\[(\d+)\]$/.exec(part)?.[1]);
    const source = answer.citations.find((each) => each.number === number);
    if (!source) return part;
    return h("a", { class: "cite", href: `#source-${answer.message_id}-${number}`,
      title: source.display_name, "aria-label": `Source ${number}: ${source.display_name}`,
      onclick: (event) => {
        event.preventDefault();
        const target = document.getElementById(`source-${answer.message_id}-${number}`);
        target.open = true;
        target.querySelector("summary").focus();
        target.scrollIntoView({ block: "nearest" });
      } }, number);
  });
}

export function sources(answer) {
  if (!answer.citations.length) return null;
  const used = (each) => answer.content.includes(`[${each.number}]`);
  const shown = (each) => h("details", { id: `source-${answer.message_id}-${each.number}` },
    h("summary", {}, h("span", { class: "cite" }, each.number), each.display_name),
    h("blockquote", {}, each.excerpt));
  const others = answer.citations.filter((each) => !used(each));
  return h("section", { class: "sources", "aria-label": "Sources" },
    answer.citations.filter(used).map(shown),
    others.length ? h("span", { class: "about" }, "also read:") : null,
    others.map(shown));
}

export function words(answer) {
  return h("div", { class: "words" },
    answer.content.split("\n\n").map((each) => h("p", {}, cited(each, answer))));
}

export function bubble(answer, reaction) {
  const about = [answer.model_used, answer.pipeline_used, `${answer.seconds.toFixed(2)} s`];
  return h("article", { class: "answer", "aria-label": "Answer" },
    words(answer), sources(answer),
    h("footer", {}, h("span", { class: "about" }, about.filter(Boolean).join(" · ")),
      feedback(answer.message_id, reaction)));
}

function feedback(id, reaction) {
  const path = `${API}/messages/${id}/feedback`;
  const buttons = [["like", "Like"], ["dislike", "Dislike"]].map(([key, label]) =>
    h("button", { type: "button", class: "quiet", "aria-pressed": String(reaction === key),
      "aria-label": label, title: label, "data-key": key,
      onclick: trying(async ({ currentTarget }) => {
        if (currentTarget.getAttribute("aria-pressed") === "true") {
          await remove(path);
          mark(null);
        } else {
          await post(path, { feedback: key });
          mark(key);
        }
      }) }));
  const mark = (key) => buttons.forEach((each) =>
    each.setAttribute("aria-pressed", String(each.dataset.key === key)));
  const box = h("div", { class: "comments", hidden: true });
  const opener = h("button", { type: "button", class: "quiet", "aria-expanded": "false",
    onclick: trying(async () => {
      box.hidden = !box.hidden;
      opener.setAttribute("aria-expanded", String(!box.hidden));
      if (!box.hidden) await comments(path, box);
    }) }, "Comment");
  return h("div", { class: "feedback" }, buttons, opener, box);
}

async function comments(path, box) {
  const given = (await get(path)).filter((each) => each.feedback === "comment");
  const text = h("input", { "aria-label": "Comment", required: true, maxlength: 2000,
    placeholder: "What was wrong, or right?" });
  box.replaceChildren(
    h("ul", {}, given.map((each) =>
      h("li", {}, each.feedback_msg, h("small", {}, moment(each.feedback_ts))))),
    h("form", { class: "row", onsubmit: trying(async () => {
      await post(path, { feedback: "comment", text: text.value });
      say("Thank you: your comment is kept.");
      await comments(path, box);
    }) }, text, h("button", {}, "Send")));
  text.focus();
}
