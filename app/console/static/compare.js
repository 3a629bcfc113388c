// Several runs in one chart for each measure, each run in one colour everywhere.
"use strict";

const compared = document.getElementById("compared");
const rows = [...document.querySelectorAll("tr[data-job]")];
let runs = [];

function draw() {
  for (const box of compared?.querySelectorAll("[data-curve]") ?? []) {
    const name = box.dataset.curve;
    const series = runs.map(({ label, told }, colour) => ({
      label, colour,
      points: (name === "validation_loss" ? told.evaluations : told.data).filter((line) => typeof line[name] === "number").map((line) => [line.step, line[name]]),
    }));
    if (series.some((one) => one.points.length)) curve(box, series);
    else box.textContent = say("no_steps");
  }
}

Promise.all(rows.map(async (row) => ({
  label: row.dataset.name,
  told: await api("GET", `/v1/fine_tuning/jobs/${row.dataset.job}/metrics?points=500`),
}))).then((told) => {
  runs = told;
  draw();
}).catch((error) => toast(error.message, "bad"));
document.addEventListener("theme", draw);
