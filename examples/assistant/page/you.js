// The profile, and keys: a key goes in and never comes out.

import { API, get, post, put, remove } from "./api.js";
import { field, h, moment, say, trying } from "./dom.js";

export async function you(state) {
  return [h("section", { class: "page" }, h("h1", {}, "You"), await profile(state), await keys())];
}

async function profile(state) {
  const mine = await get(`${API}/user/profile`);
  const name = h("input", { value: mine.display_name || "", maxlength: 500, autocomplete: "name" });
  const k = h("input", { type: "number", min: 1, max: 100,
    value: mine.preferences.num_documents_to_retrieve ?? "", placeholder: "as everybody" });
  return h("form", { class: "card", onsubmit: trying(async () => {
    const chosen = k.value !== "";
    await put(`${API}/user/profile`, {
      display_name: name.value || null,
      preferences: chosen ? { num_documents_to_retrieve: Number(k.value) } : {},
      clear: chosen ? [] : ["num_documents_to_retrieve"],
    });
    say("Your profile is saved.");
  }) },
    h("h2", {}, "Profile"),
    h("p", { class: "note" }, `${state.user} · ${mine.role} · since ${moment(mine.created_at)}`),
    h("div", { class: "two" }, field("Display name", name),
      field("Passages per answer", k, "A preference of yours; empty follows the settings.")),
    h("button", { class: "primary" }, "Save profile"));
}

async function keys() {
  const list = h("ul", { class: "keys" });
  const provider = h("input", { required: true, pattern: "[a-z0-9][a-z0-9_.\\-]*", maxlength: 64,
    placeholder: "openai", autocomplete: "off", spellcheck: "false" });
  const key = h("input", { type: "password", required: true, maxlength: 8192, autocomplete: "off" });
  async function load() {
    const stored = await get(`${API}/user/api-keys`);
    list.replaceChildren(...(stored.length ? stored.map((each) => h("li", {},
      h("strong", {}, each.provider), h("code", {}, `•••• ${each.last_four}`),
      h("small", {}, moment(each.rotated_at || each.created_at)),
      h("button", { type: "button", "aria-label": `Delete the key for ${each.provider}`,
        onclick: trying(async () => {
          await remove(`${API}/user/api-keys/${encodeURIComponent(each.provider)}`);
          say(`The key for ${each.provider} is deleted.`);
          await load();
        }) }, "Delete"))) : [h("li", { class: "note" }, "You have no keys here.")]));
  }
  await load();
  return h("section", { class: "card" }, h("h2", {}, "API keys"),
    h("p", { class: "note" }, "Encrypted for you and this provider. Only the last four characters "
      + "are ever shown again. A model of that provider is asked with your key in place of the "
      + "deployment's."),
    list,
    h("form", { class: "keyform", onsubmit: trying(async () => {
      await post(`${API}/user/api-keys/${encodeURIComponent(provider.value)}`, { api_key: key.value });
      say(`The key for ${provider.value} is kept.`);
      provider.value = key.value = "";
      await load();
    }) }, field("Provider", provider), field("Key", key), h("button", { class: "primary" }, "Keep key")));
}
