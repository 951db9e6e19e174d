// The configuration: a form made of its schema, changes made for a revision, and the way back.

import { API, get, request } from "./api.js";
import { field, h, moment, say, trying } from "./dom.js";
import { control, read, shownAs } from "./controls.js";

// What this application goes by, with its names here; the rest is for other hosts.
const USED = {
  active_model: "Answered by",
  num_documents_to_retrieve: "Passages per answer",
  use_hybrid_search: "Search by words as well as by meaning",
  semantic_weight: "Weight of meaning",
  bm25_weight: "Weight of words",
};
const title = (name) =>
  USED[name] ?? name.replaceAll("_", " ").replace(/^./, (each) => each.toUpperCase());

export async function settings(state) {
  const [schema, deployed] = await Promise.all([
    get("/assistant/settings-schema"), get(`${API}/config/static`)]);
  schema.properties.active_model = { enum: deployed.available_models };
  const section = h("section", { class: "page" });
  const view = { section, schema };
  await draw(view);
  return [section];
}

async function draw(view) {
  const [now, history] = await Promise.all([
    get(`${API}/config/dynamic`), get(`${API}/config/dynamic/history?limit=20`)]);
  view.section.replaceChildren(h("h1", {}, "Settings"),
    h("p", { class: "lead" }, `Revision ${now.revision}. What you change holds for everybody who `
      + "didn't set it for themselves."),
    form(view, now), past(view, now, history.revisions));
}

function form(view, now) {
  const controls = new Map();
  const line = (name) => {
    const schema = resolved(view.schema, view.schema.properties[name]);
    const made = control(schema, now.settings[name]);
    made.id = `set-${name}`;
    controls.set(name, { made, schema });
    const hint = now.set.includes(name) ? "set here" : "as deployed";
    return field(title(name), made, hint);
  };
  const note = h("input", { maxlength: 2000, placeholder: "Why? Others read it in the history." });
  const problem = h("div", { role: "alert" });
  const rest = Object.keys(view.schema.properties).filter((each) => !(each in USED));
  const save = async (expected, settings) => {
    const body = { settings, note: note.value || null };
    return request("PUT", `${API}/config/dynamic`, body, { "If-Match": `"${expected}"` });
  };
  return h("form", { class: "card", novalidate: true, onsubmit: trying(async () => {
    problem.replaceChildren();
    for (const { made } of controls.values()) made.removeAttribute("aria-invalid");
    const changed = {};
    try {
      for (const [name, { made, schema }] of controls) {
        const value = read(schema, made);
        if (JSON.stringify(value) !== JSON.stringify(now.settings[name])) changed[name] = value;
      }
    } catch (error) {
      return problem.replaceChildren(h("p", { class: "bad" }, error.message));
    }
    if (!Object.keys(changed).length) return say("Nothing was changed.");
    try {
      const made = await save(now.revision, changed);
      say(`Saved as revision ${made.revision}.`);
      await draw(view);
    } catch (error) {
      if (error.status === 412) return conflict(view, problem, now, changed, save);
      for (const name of Object.keys(error.fields)) {
        controls.get(name.split(".")[0])?.made.setAttribute("aria-invalid", "true");
      }
      problem.replaceChildren(h("p", { class: "bad" }, error.message));
    }
  }) },
    h("div", { class: "two" }, Object.keys(USED).map(line)),
    h("details", {}, h("summary", {}, `${rest.length} more, which this application doesn't use`),
      h("div", { class: "two" }, rest.map(line))),
    field("Note", note), problem, h("button", { class: "primary" }, "Save"));
}

// Somebody saved first: both values are shown, and the person decides.
async function conflict(view, box, before, changed, save) {
  const now = await get(`${API}/config/dynamic`);
  const both = Object.keys(changed).filter((name) =>
    JSON.stringify(now.settings[name]) !== JSON.stringify(before.settings[name]));
  const choices = both.map((name) => {
    const option = (kind, label, value) => h("label", {},
      h("input", { type: "radio", name: `keep-${name}`, value: kind, checked: kind === "theirs" }),
      h("span", {}, label), h("code", {}, shownAs(value)));
    return h("fieldset", {}, h("legend", {}, title(name)),
      option("theirs", "What it is now", now.settings[name]),
      option("mine", "What you wanted", changed[name]));
  });
  const quiet = Object.keys(changed).filter((name) => !both.includes(name)).map(title);
  box.replaceChildren(h("div", { class: "conflict" },
    h("h2", {}, "Somebody else saved meanwhile"),
    h("p", {}, `You began with revision ${before.revision}; by now it is ${now.revision}. `
      + (both.length ? "Nothing of yours is lost: choose what is to hold." :
        "They changed other settings than you did.")),
    choices,
    quiet.length ? h("p", {}, `Yours alone, and saved too: ${quiet.join(", ")}.`) : null,
    h("div", { class: "row" },
      h("button", { type: "button", class: "primary", onclick: trying(async () => {
        const wanted = { ...changed };
        for (const name of both) {
          if (box.querySelector(`[name="keep-${name}"]:checked`).value === "theirs") delete wanted[name];
        }
        if (Object.keys(wanted).length) {
          try {
            const made = await save(now.revision, wanted);
            say(`Saved as revision ${made.revision}.`);
          } catch (error) {
            if (error.status === 412) return conflict(view, box, before, changed, save);
            throw error;
          }
        }
        await draw(view);
      }) }, "Save this"),
      h("button", { type: "button", onclick: trying(() => draw(view)) }, "Start over"))));
  box.querySelector("input, button").focus();
}

function past(view, now, revisions) {
  const rollback = (to) => trying(async () => {
    try {
      const made = await request("POST", `${API}/config/dynamic/rollback`,
        { to_revision: to, note: `Back to revision ${to}` }, { "If-Match": `"${now.revision}"` });
      say(`Revision ${made.revision} has the settings of ${to}.`);
    } catch (error) {
      if (error.status !== 412) throw error;
      say("Somebody else saved meanwhile: here is what there is now.", "bad");
    }
    await draw(view);
  });
  const line = (each) => h("li", {},
    h("div", {}, h("strong", {}, `Revision ${each.revision}`),
      h("small", {}, [each.changed_by, each.changed_at && moment(each.changed_at)]
        .filter(Boolean).join(" · ")),
      h("p", {}, each.note || ""),
      h("code", {}, Object.entries(each.settings).map(([key, value]) =>
        `${title(key)}: ${shownAs(value)}`).join("\n") || "everything as deployed")),
    each.revision === now.revision ? h("span", { class: "tag good" }, "holds") :
      h("button", { type: "button", onclick: rollback(each.revision),
        "aria-label": `Roll back to revision ${each.revision}` }, "Roll back"));
  const begin = { revision: 0, settings: {}, note: "Before the first change" };
  const all = revisions.length && revisions.at(-1).revision > 1 ? revisions : [...revisions, begin];
  return h("section", { class: "card" }, h("h2", {}, "History"),
    h("ol", { class: "history" }, all.map(line)));
}

function resolved(root, schema) {
  if (schema.$ref) return resolved(root, root.$defs[schema.$ref.split("/").at(-1)]);
  if (!schema.anyOf) return schema;
  const kinds = schema.anyOf.filter((each) => each.type !== "null");
  return { ...resolved(root, kinds[0]), nullable: kinds.length < schema.anyOf.length };
}
