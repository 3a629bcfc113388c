// The recipe editor: collects the form into a recipe, tries it while it is edited, makes the version.
"use strict";

const cards = document.getElementById("cards");
const preview = document.getElementById("preview");
const onlyChanged = document.getElementById("only-changed");
let newest = 0;
let waiting;

const READ = {
  flag: (field) => field.checked,
  text: (field) => field.value,
  written: (field) => JSON.parse(field.value),
  json: (field) => JSON.parse(field.value || "{}"),
  number: (field) => (field.value === "" ? null : Number(field.value)),
  choice: (field) => field.value || null,
  lines: (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean),
  list: (field) => [...field.querySelectorAll("input:checked")].map((box) => box.value),
};
/** Fields that may be empty are left out, so that their defaults hold. */
const MAY_BE_EMPTY = (name, value) => value === null || (name === "as_of" && value === "");

function recipe() {
  const operators = [];
  for (const card of cards.querySelectorAll(".card:not(.off)")) {
    const operator = { kind: card.dataset.operator };
    for (const field of card.querySelectorAll("[data-field]")) {
      let value;
      try {
        value = READ[field.dataset.kind](field);
      } catch {
        throw new Error(say("not_json", { field: field.dataset.field }));
      }
      if (!MAY_BE_EMPTY(field.dataset.field, value)) operator[field.dataset.field] = value;
    }
    operators.push(operator);
  }
  return { operators };
}

const files = () => [...document.querySelectorAll("#files input:checked")].map((box) => box.value);

async function tryOut() {
  const [file] = files();
  if (!file) return;
  const mine = ++newest;
  preview.setAttribute("aria-busy", "true");
  const before = preview.querySelector(".empty");
  if (before) before.textContent = say("trying");
  try {
    const answer = await fetch("/console/preview", {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf-token": csrf },
      body: JSON.stringify({ recipe: recipe(), file }),
    });
    const page = await answer.text();
    if (mine !== newest) return;
    preview.innerHTML = page;
    narrow();
  } catch (error) {
    if (mine === newest) toast(error.message, "bad");
  }
  preview.removeAttribute("aria-busy");
}

/** Hides the conversations and turns to which nothing happened, if the user wants that. */
function narrow() {
  for (const same of preview.querySelectorAll("article.same, .pair:not(:has(.why))")) same.hidden = onlyChanged.checked;
}

function later() {
  clearTimeout(waiting);
  waiting = setTimeout(tryOut, 350);
}

cards.addEventListener("input", (event) => {
  if (event.target.matches(".on")) event.target.closest(".card").classList.toggle("off", !event.target.checked);
  later();
});
cards.addEventListener("click", (event) => {
  const button = event.target.closest("[data-move]");
  if (!button) return;
  const card = button.closest(".card");
  if (button.dataset.move === "1") card.nextElementSibling?.after(card);
  else card.previousElementSibling?.before(card);
  button.focus();
  later();
});
document.getElementById("files")?.addEventListener("change", later);
onlyChanged.addEventListener("change", narrow);
document.getElementById("make").addEventListener("click", async (event) => {
  const button = event.target;
  button.disabled = true;
  try {
    if (!files().length) throw new Error(say("no_file_chosen"));
    const note = document.getElementById("note").value.trim();
    const body = { files: files(), recipe: recipe(), ...(note && { note }) };
    location.assign(`/console/versions/${(await api("POST", `/v1/datasets/${button.dataset.dataset}/versions`, body)).id}`);
  } catch (error) {
    toast(error.message, "bad");
    button.disabled = false;
  }
});
tryOut();
