// What every page does: calls the API, says what went wrong, writes times in the reader's zone, listens to keys.
"use strict";

const texts = JSON.parse(document.getElementById("texts").textContent);
const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

/** A text by its name, with its blanks filled in. */
function say(name, values = {}) {
  return texts[name].replace(/\{(\w+)\}/g, (_, blank) => values[blank] ?? "");
}

/** A short message at the edge of the page. */
function toast(message, kind = "") {
  const box = Object.assign(document.createElement("div"), { className: `toast ${kind}`, textContent: message });
  box.setAttribute("role", kind === "bad" ? "alert" : "status");
  document.querySelector(".toasts").append(box);
  setTimeout(() => box.remove(), kind === "bad" ? 12000 : 4000);
}

/** Asks the API; gives the answer's JSON, or throws an Error with what the service says. */
async function api(method, path, body, options = {}) {
  const headers = { "x-csrf-token": csrf, ...options.headers };
  const isForm = body instanceof FormData;
  if (body !== undefined && !isForm) headers["content-type"] = "application/json";
  const sent = body === undefined || isForm ? body : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(path, { ...options, method, headers, body: sent });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(say("no_answer"));
  }
  if (answer.status === 401) location.assign(`/console/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail ?? say("failed", { status: answer.status }));
  return told;
}

function parsed(name, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(say("not_json", { field: name }));
  }
}

/** The values of a form as JSON; names with dots nest, empty fields are left out. */
function valuesOf(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (["checkbox", "radio"].includes(field.type) && !field.checked)) continue;
    let value = field.value.trim();
    if (value === "") continue;
    if (field.type === "number" || field.dataset.type === "number") value = Number(value);
    if (field.dataset.type === "json") value = parsed(field.name, value);
    if (field.dataset.type === "lines") value = value.split("\n").map((line) => line.trim()).filter(Boolean);
    const path = field.name.split(".");
    const last = path.pop();
    const inner = path.reduce((at, name) => (at[name] ??= {}), values);
    if (field.dataset.type === "list") (inner[last] ??= []).push(value);
    else inner[last] = value;
  }
  return values;
}

/** Buttons and forms with data-api="METHOD /path" ask the API; data-then says where to go, or `reload`. */
async function askAsTold(element, body) {
  const [method, path] = element.dataset.api.split(" ");
  if (element.dataset.confirm && !confirm(element.dataset.confirm)) return;
  const buttons = element.matches("form") ? [...element.querySelectorAll("button:not([type=button])")] : [element];
  buttons.forEach((button) => (button.disabled = true));
  try {
    const told = await api(method, path, body);
    element.dispatchEvent(new CustomEvent("answered", { detail: told, bubbles: true }));
    const then = element.dataset.then;
    if (then === "reload") location.reload();
    else if (then) location.assign(then.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(told[name])));
  } catch (error) {
    toast(error.message, "bad");
  }
  buttons.forEach((button) => (button.disabled = false));
}

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.api) return;
  event.preventDefault();
  try {
    askAsTold(event.target, valuesOf(event.target));
  } catch (error) {
    toast(error.message, "bad");
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-api], button[data-theme-choice], button[data-copy], button[data-open], button[data-close]");
  if (!button) return;
  if (button.dataset.api) askAsTold(button);
  if (button.dataset.open) document.getElementById(button.dataset.open).showModal();
  if (button.dataset.close !== undefined) button.closest("dialog").close();
  if (button.dataset.copy) navigator.clipboard.writeText(button.dataset.copy).then(() => toast(say("copied")));
  if (button.dataset.themeChoice !== undefined) {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
      (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    document.dispatchEvent(new CustomEvent("theme"));
  }
});

/** Times in the reader's own zone and language. */
function localTimes(root) {
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]")) time.textContent = format.format(new Date(time.dateTime));
}

/** Single keys go to pages (g then a letter), to the search field (/), and to the list of keys (?). */
let waitingForPage = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
  if (waitingForPage) {
    waitingForPage = false;
    document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`)?.click();
  } else if (event.key === "g") {
    waitingForPage = true;
    setTimeout(() => (waitingForPage = false), 1500);
  } else if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (search) {
      search.focus();
      event.preventDefault();
    }
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  }
});

localTimes(document);
document.body.addEventListener("htmx:afterSwap", () => {
  localTimes(document);
  // What was waited for is there: the whole page is asked for, with the scripts that belong to it.
  if (document.querySelector("#main[data-waited]") && !document.querySelector("#main [hx-trigger^=every]")) location.reload();
});
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "main") event.detail.serverResponse = event.detail.serverResponse.replace('id="main"', 'id="main" data-waited');
});
document.body.addEventListener("htmx:sendError", () => toast(say("no_answer"), "bad"));

/** A colour of the page's own, by its custom property; canvases know no properties. */
function inkOf(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
