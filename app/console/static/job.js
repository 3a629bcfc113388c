// A job's curves: what was measured so far, then what comes by the event stream, with recoveries as marks.
"use strict";

const charts = document.getElementById("charts");
const job = charts.dataset.job;
const recovery = JSON.parse(charts.dataset.recovery);
const lines = new Map();
let evaluations = [];
let isDrawing = false;

function marks() {
  return recovery.map((entry) => ({ step: entry.step ?? 0, label: `↺ ${entry.kind ?? ""}` }));
}

function draw() {
  isDrawing = false;
  const ordered = [...lines.values()].sort((a, b) => a.step - b.step);
  for (const box of charts.querySelectorAll("[data-curve]")) {
    const name = box.dataset.curve;
    const points = ordered.filter((line) => typeof line[name] === "number").map((line) => [line.step, line[name]]);
    const series = [{ label: say(`curve.${name}`), points }];
    const heldOut = evaluations.filter((one) => typeof one.validation_loss === "number").map((one) => [one.step, one.validation_loss]);
    if (name === "loss" && heldOut.length) series.push({ label: say("curve.validation_loss"), points: heldOut, dash: [6, 4] });
    if (points.length) curve(box, series, marks());
    else box.textContent = say("no_steps");
  }
}

function drawSoon() {
  if (!isDrawing) setTimeout(draw, 250);
  isDrawing = true;
}

async function load() {
  const told = await api("GET", `/v1/fine_tuning/jobs/${job}/metrics?points=2000`);
  lines.clear();
  told.data.forEach((line) => lines.set(line.step, line));
  evaluations = told.evaluations;
  draw();
}

/** A message of the stream as a line of the list, once. */
function tell(event) {
  const list = document.getElementById("events");
  if (list.querySelector(`[data-id="${CSS.escape(event.id)}"]`)) return;
  const item = document.createElement("li");
  item.dataset.id = event.id;
  item.innerHTML = '<div class="line"><span class="quiet nowrap"><time></time></span><span class="grow"></span></div>';
  item.querySelector("time").dateTime = new Date(event.created_at * 1000).toISOString();
  item.querySelector(".grow").textContent = event.message;
  localTimes(item);
  list.prepend(item);
}

function follow() {
  const stream = new EventSource(`/v1/fine_tuning/jobs/${job}/stream`);
  stream.addEventListener("metrics", (message) => {
    const line = JSON.parse(message.data);
    lines.set(line.step, line);
    drawSoon();
  });
  stream.addEventListener("event", (message) => tell(JSON.parse(message.data)));
  stream.addEventListener("rollback", (message) => {
    const { step } = JSON.parse(message.data);
    for (const known of lines.keys()) if (known > step) lines.delete(known);
    recovery.push({ step });
    drawSoon();
  });
  stream.addEventListener("end", () => stream.close());
  addEventListener("pagehide", () => stream.close());
}

load().then(() => {
  if (charts.dataset.final === undefined) {
    follow();
    setInterval(async () => {
      evaluations = (await api("GET", `/v1/fine_tuning/jobs/${job}/metrics?points=1`).catch(() => ({ evaluations }))).evaluations;
      drawSoon();
    }, 10000);
  }
}).catch((error) => toast(error.message, "bad"));
document.addEventListener("theme", draw);
addEventListener("resize", drawSoon);
