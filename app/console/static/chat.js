// The same words to two models, side by side; each goes on with its own dialogue.
"use strict";

const form = document.getElementById("say");
const sides = [...document.querySelectorAll("[data-side]")].map((box) => ({ box, messages: [] }));

function put(side, role, text) {
  const turn = document.createElement("div");
  turn.className = `turn ${role}`;
  turn.textContent = text;
  side.box.querySelector(".dialogue").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  return turn;
}

async function ask(side, text) {
  const model = side.box.querySelector("select").value;
  if (!model) return;
  side.messages.push({ role: "user", content: text });
  put(side, "user", text);
  const reply = put(side, "assistant", "…");
  const loading = setTimeout(() => (reply.textContent = say("loading_model")), 3000);
  try {
    const body = { model, messages: side.messages, temperature: Number(form.elements.temperature.value), curate: form.elements.curate.checked, max_tokens: 256 };
    const told = await api("POST", "/v1/chat/completions", body);
    reply.textContent = told.choices[0].message.content || say("empty_reply");
    side.messages.push({ role: "assistant", content: told.choices[0].message.content });
  } catch (error) {
    reply.textContent = error.message;
    reply.classList.add("gone");
    side.messages.pop();
  } finally {
    clearTimeout(loading);
  }
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = form.elements.message;
  const text = field.value.trim();
  if (!text) return;
  field.value = "";
  const button = form.querySelector("button.main");
  button.disabled = true;
  await Promise.all(sides.map((side) => ask(side, text)));
  button.disabled = false;
  field.focus();
});
form?.elements.message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
document.getElementById("anew")?.addEventListener("click", () => {
  for (const side of sides) {
    side.messages = [];
    side.box.querySelector(".dialogue").replaceChildren();
  }
});
