// Blind judging by keyboard: 1 A, 2 B, 3 a tie, 4 both bad; the next pair comes at once.
"use strict";

const judge = document.getElementById("judge");
const CHOICES = { 1: "a", 2: "b", 3: "tie", 4: "both_bad" };
let item = null;

const turn = (message) => {
  const made = document.createElement("div");
  made.className = `turn ${message.role}`;
  const who = Object.assign(document.createElement("span"), { className: "who", textContent: texts[`role.${message.role}`] ?? message.role });
  made.append(who, message.content);
  return made;
};

async function next() {
  const query = new URLSearchParams({ rater: judge.dataset.rater });
  const pair = await api("GET", `/v1/reviews/${judge.dataset.review}/next?${query}`);
  if (pair.done) return location.reload();
  item = pair.item;
  document.getElementById("place").textContent = say("pair", { number: pair.number, total: pair.total });
  const prompt = document.getElementById("prompt");
  prompt.replaceChildren(...pair.messages.map(turn));
  prompt.scrollTop = prompt.scrollHeight;
  document.getElementById("a").textContent = pair.a || say("empty_reply");
  document.getElementById("b").textContent = pair.b || say("empty_reply");
}

async function choose(choice) {
  if (!item) return;
  const judged = item;
  item = null;
  const comment = document.getElementById("comment").value.trim();
  try {
    await api("POST", `/v1/reviews/${judge.dataset.review}/judgements`, { item: judged, choice, rater: judge.dataset.rater, ...(comment && { comment }) });
    document.getElementById("comment").value = "";
    await next();
  } catch (error) {
    item = judged;
    toast(error.message, "bad");
  }
}

if (judge) {
  judge.addEventListener("click", (event) => {
    const button = event.target.closest("[data-choice]");
    if (button) choose(button.dataset.choice);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select") || !(event.key in CHOICES)) return;
    choose(CHOICES[event.key]);
  });
  next().catch((error) => toast(error.message, "bad"));
}
