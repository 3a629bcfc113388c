// Charts of users' tags: bars by one tag, stacked by a second; a table of the same figures; a bar leads to its conversations.
"use strict";

const form = document.getElementById("tag-form");
const version = form.dataset.version;
const MOST_BARS = 40;
let chart;
let newest = 0;

function asked() {
  const query = new URLSearchParams();
  const by = [...new Set([...form.elements.by].map((field) => field.value).filter(Boolean))];
  by.forEach((field) => query.append("by", field));
  query.set("metric", form.elements.metric.value);
  form.elements.where.value.split(/\s+/).filter(Boolean).forEach((condition) => query.append("where", condition));
  return { by, query };
}

const named = (value) => texts[`value.${value}`] ?? value;

function draw(answer, by) {
  const [first, second] = by;
  const sums = new Map();
  for (const row of answer.rows) sums.set(row[first], (sums.get(row[first]) ?? 0) + row.value);
  const ordered = first === "age_band" ? [...sums.keys()].sort() : [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a));
  const bars = ordered.slice(0, MOST_BARS);
  const groups = second ? [...new Set(answer.rows.map((row) => row[second]))].sort() : [null];
  const ink = inkOf("--ink");
  const line = inkOf("--line");
  chart?.dispose();
  chart = echarts.init(document.getElementById("tag-chart"), null, { renderer: "canvas" });
  chart.setOption({
    color: [inkOf("--accent"), "#d98d3a", "#6f8fd8", "#b06fb5", "#7aa65a", "#c8666b", "#8d8d8d"],
    animation: false,
    textStyle: { color: ink },
    legend: { show: Boolean(second), textStyle: { color: ink }, type: "scroll", formatter: named },
    tooltip: { trigger: "axis", renderMode: "richText", axisPointer: { type: "shadow" } },
    grid: { left: 10, right: 20, top: second ? 40 : 15, bottom: 10, containLabel: true },
    xAxis: { type: "category", data: bars.map(named), axisLabel: { color: ink, rotate: bars.length > 9 ? 40 : 0, interval: 0 }, axisLine: { lineStyle: { color: line } } },
    yAxis: { type: "value", axisLabel: { color: ink }, splitLine: { lineStyle: { color: line } } },
    series: groups.map((group) => ({
      type: "bar",
      name: group === null ? say(`metric.${answer.metric}`) : named(group),
      stack: "all",
      barMaxWidth: 60,
      data: bars.map((bar) => answer.rows.filter((row) => row[first] === bar && (group === null || row[second] === group)).reduce((sum, row) => sum + row.value, 0)),
    })),
  });
  chart.on("click", (event) => {
    const value = bars[event.dataIndex];
    if (value !== "unknown" && first !== "country" && first !== "city") location.assign(`/console/versions/${version}/conversations?${new URLSearchParams({ [first]: value })}`);
  });
}

function list(answer, by) {
  const table = document.getElementById("tag-table");
  const head = [...by.map((field) => say(`tag.${field}`)), say(`metric.${answer.metric}`), "%"];
  const cell = (kind, text, isNumber) => Object.assign(document.createElement(kind), { textContent: text, className: isNumber ? "number" : "" });
  const rows = answer.rows.map((row) => [...by.map((field) => named(row[field])), row.value.toLocaleString(), (100 * row.share).toFixed(1)]);
  const line = (cells, kind) => {
    const made = document.createElement("tr");
    made.append(...cells.map((text, place) => cell(kind, text, place >= by.length)));
    return made;
  };
  const [thead, tbody] = [document.createElement("thead"), document.createElement("tbody")];
  thead.append(line(head, "th"));
  tbody.append(...rows.map((cells) => line(cells, "td")));
  table.replaceChildren(thead, tbody);
}

async function show() {
  const { by, query } = asked();
  const mine = ++newest;
  document.getElementById("csv").href = `/v1/versions/${version}/tags/statistics?${query}&format=csv`;
  try {
    const answer = await api("GET", `/v1/versions/${version}/tags/statistics?${query}`);
    if (mine !== newest) return;
    const notes = [say("tag_total", { total: answer.total.toLocaleString(), metric: say(`metric.${answer.metric}`) })];
    if (answer.multi_valued?.length) notes.push(say("multi_valued"));
    document.getElementById("tag-total").textContent = notes.join(" ");
    draw(answer, by);
    list(answer, by);
  } catch (error) {
    if (mine === newest) document.getElementById("tag-total").textContent = error.message;
  }
}

let waiting;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(show, 300);
});
form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("theme", show);
addEventListener("resize", () => chart?.resize());
show();
