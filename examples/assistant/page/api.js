// Requests to the application. Who asks is in a cookie that scripts can't read.

export class Problem extends Error {
  constructor(status, said) {
    super(said.detail || said.title || `The server answered ${status}.`);
    this.status = status;
    this.fields = said.fields || {};
  }
}

export async function request(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem(0, { detail: "The server can't be reached." });
  }
  const text = await response.text();
  const json = (response.headers.get("content-type") || "").includes("json");
  const said = json && text ? JSON.parse(text) : {};
  if (!response.ok) throw new Problem(response.status, said);
  return said;
}

export const get = (path) => request("GET", path);
export const post = (path, body = {}) => request("POST", path, body);
export const put = (path, body, headers) => request("PUT", path, body, headers);
export const remove = (path) => request("DELETE", path);

export const API = "/api/v2";
