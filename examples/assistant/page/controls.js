// Form controls for JSON schemas: numbers, switches, choices, texts, and JSON for the rest.

import { h, select } from "./dom.js";

export const shownAs = (value) => typeof value === "string" ? value : JSON.stringify(value);

export function control(schema, value) {
  if (schema.enum) return select(schema.enum.map((each) => [each, each]), value);
  switch (schema.type) {
    case "boolean":
      return h("input", { type: "checkbox", role: "switch", checked: value });
    case "integer":
    case "number":
      return h("input", { type: "number", value: value ?? "", min: schema.minimum,
        max: schema.maximum, step: schema.type === "integer" ? 1 : "any",
        placeholder: schema.nullable ? "none" : null });
    case "string":
      return h("input", { value: value ?? "", placeholder: schema.nullable ? "none" : null });
    default:
      return h("textarea", { rows: 2, spellcheck: "false", value: JSON.stringify(value) });
  }
}

export function read(schema, made) {
  if (schema.type === "boolean") return made.checked;
  if (made.value === "" && schema.nullable) return null;
  if (schema.enum || schema.type === "string") return made.value;
  if (schema.type === "integer" || schema.type === "number") {
    if (made.value === "" || Number.isNaN(made.valueAsNumber)) {
      throw new Error(`${made.labels[0].textContent} takes a number.`);
    }
    return made.valueAsNumber;
  }
  try {
    return JSON.parse(made.value);
  } catch {
    throw new Error(`${made.labels[0].textContent} takes JSON.`);
  }
}
