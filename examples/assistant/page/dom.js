// Elements made in one expression. Texts are text nodes, never markup.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return element;
}

export function field(label, control, hint) {
  const id = control.id || `f-${Math.random().toString(36).slice(2)}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    control,
    hint ? h("small", { id: `${id}-hint` }, hint) : null);
}

export function select(options, value, attributes = {}) {
  const made = h("select", attributes, options.map(([key, label]) =>
    h("option", { value: key, selected: key === value }, label)));
  return made;
}

let fading;
export function say(text, kind = "") {
  const toast = document.getElementById("said");
  toast.textContent = text;
  toast.dataset.kind = kind;
  clearTimeout(fading);
  fading = setTimeout(() => { toast.textContent = ""; }, 6000);
}

// Runs what a person asked for; what goes wrong is said to them.
export const trying = (action) => async (event) => {
  event?.preventDefault?.();
  try {
    return await action(event);
  } catch (error) {
    say(error.message, "bad");
    if (!error.status && error.status !== 0) throw error;
  }
};

export const moment = (text) => new Date(text).toLocaleString(undefined,
  { dateStyle: "medium", timeStyle: "short" });
