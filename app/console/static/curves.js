// Curves over steps: one chart of one or more runs, with marks where a run recovered; in the page's own colours.
"use strict";

const PALETTE = ["#0b8494", "#d98d3a", "#6f7fd8", "#b0559a", "#5f9a3a", "#c8535a", "#8a7a5a", "#3d8fd1", "#9a6fd0", "#4aa58a"];

/** A number short enough for an axis. */
const short = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4))));

/** Draws vertical lines where runs recovered. */
function marksAt(steps) {
  return {
    hooks: {
      draw: (plot) => {
        const { ctx } = plot;
        ctx.save();
        ctx.strokeStyle = inkOf("--warn");
        ctx.fillStyle = ctx.strokeStyle;
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([4, 3]);
        ctx.textAlign = "left";
        for (const { step, label } of steps) {
          const x = plot.valToPos(step, "x", true);
          if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
          ctx.beginPath();
          ctx.moveTo(x, plot.bbox.top);
          ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
          ctx.stroke();
          ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
          ctx.fillText(label, x + 4 * devicePixelRatio, plot.bbox.top + 12 * devicePixelRatio);
        }
        ctx.restore();
      },
    },
  };
}

/** A chart in `box`; `series` are {label, points, dash}, points being [step, value] in order. */
function curve(box, series, marks = []) {
  const steps = [...new Set(series.flatMap((one) => one.points.map(([step]) => step)))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  const data = [steps, ...series.map((one) => {
    const values = new Array(steps.length).fill(null);
    for (const [step, value] of one.points) values[place.get(step)] = value;
    return values;
  })];
  const ink = inkOf("--quiet");
  const grid = { stroke: inkOf("--line"), width: 1 };
  const axis = { stroke: ink, grid, ticks: grid };
  box.replaceChildren();
  const plot = new uPlot({
    width: box.clientWidth,
    height: 230,
    cursor: { drag: { x: true, y: false } },
    scales: { x: { time: false } },
    axes: [{ ...axis, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? String(tick) : "")) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(short) }],
    series: [{ label: say("step") }, ...series.map((one, index) => ({
      label: one.label, stroke: PALETTE[(one.colour ?? index) % PALETTE.length], width: 1.6, dash: one.dash, spanGaps: true, value: (_, value) => short(value),
      points: { show: one.points.length < 3 || Boolean(one.dash), size: 5 },
    }))],
    plugins: [marksAt(marks)],
  }, data, box);
  return plot;
}
