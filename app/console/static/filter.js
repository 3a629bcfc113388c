// A learned filter: a threshold to slide, texts to try, uncertain sentences to label by keyboard.
"use strict";

const page = document.getElementById("filter");
const address = `/v1/${page.dataset.route}/${page.dataset.id}`;

const thresholds = document.getElementById("thresholds");
if (thresholds) {
  const tables = JSON.parse(thresholds.dataset.tables);
  const recommended = JSON.parse(thresholds.dataset.recommended);
  const label = document.getElementById("label");
  const slider = document.getElementById("threshold");
  const show = () => {
    const row = tables[label.value][slider.value];
    document.getElementById("threshold-value").textContent = row.threshold;
    const facts = Object.entries(row).filter(([name]) => name !== "threshold").flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: texts[`measure.${name}`] ?? name }),
      Object.assign(document.createElement("dd"), { textContent: value ?? "–" }),
    ]);
    document.getElementById("at-threshold").replaceChildren(...facts);
  };
  const choose = () => {
    const rows = tables[label.value];
    slider.max = rows.length - 1;
    slider.value = Math.max(0, rows.findIndex((row) => row.threshold === recommended[label.value]));
    show();
  };
  label.addEventListener("change", choose);
  slider.addEventListener("input", show);
  choose();
}

document.getElementById("try")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const lines = event.target.elements.texts.value.split("\n").filter((line) => line.trim());
  try {
    const { predictions } = await api("POST", `${address}/predict`, { texts: lines });
    document.getElementById("tried").replaceChildren(...predictions.map((one, place) => Object.assign(document.createElement("li"), {
      textContent: one.label === undefined ? `${lines[place]} → ${one.smoothed}` : `${one.label} ${one.score.toFixed(3)} · ${lines[place]}`,
    })));
  } catch (error) {
    toast(error.message, "bad");
  }
});

const labelling = document.getElementById("labelling");
if (labelling) {
  const labels = JSON.parse(labelling.dataset.labels);
  const given = [];
  let waiting = [];
  const show = () => {
    document.getElementById("to-label").hidden = false;
    document.getElementById("label-text").textContent = waiting[0]?.text ?? say("no_more_texts");
    document.getElementById("label-place").textContent = waiting[0] ? say("left_to_label", { number: waiting.length, label: waiting[0].label, score: waiting[0].score.toFixed(2) }) : "";
    document.getElementById("label-count").textContent = say("labelled", { number: given.length });
    document.getElementById("label-train").disabled = !given.length;
  };
  const give = (label) => {
    if (!waiting.length) return;
    const { text } = waiting.shift();
    if (label !== null) given.push({ text, label });
    show();
  };
  document.getElementById("label-choices").append(...[...labels, null].map((label, place) => {
    const button = document.createElement("button");
    button.append(label ?? say("skip"), " ", Object.assign(document.createElement("kbd"), { textContent: label === null ? "0" : String(place + 1) }));
    button.addEventListener("click", () => give(label));
    return button;
  }));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || !/^[0-9]$/.test(event.key)) return;
    if (event.key === "0") give(null);
    else if (labels[event.key - 1] !== undefined) give(labels[event.key - 1]);
  });
  document.getElementById("find-uncertain").addEventListener("click", async (event) => {
    event.target.disabled = true;
    try {
      waiting = (await api("GET", `${address}/uncertain?version=${document.getElementById("label-version").value}&limit=100`)).data;
      show();
    } catch (error) {
      toast(error.message, "bad");
    }
    event.target.disabled = false;
  });
  document.getElementById("label-train").addEventListener("click", async () => {
    try {
      location.assign(`/console/filters/${(await api("POST", `${address}/labels`, { labels: given })).id}`);
    } catch (error) {
      toast(error.message, "bad");
    }
  });
}
