// Charts of the last hour. The numbers come from /v1/charts, every five seconds; without script all pages still work.
"use strict";
(() => {
  const events = document.getElementById("chart-events");
  if (!events || typeof uPlot === "undefined") return;
  const spool = document.getElementById("chart-spool");
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--soft").trim(), line = style.getPropertyValue("--line").trim();
  const colours = ["#2f81f7", "#d29922", "#3fb950", "#db61a2", "#a371f7", "#f0883e", "#39c5cf", "#8b949e"];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
  let drawn = [], shape = "";

  function draw(box, names, data) {
    const series = names.map((name, at) => ({ label: name, stroke: colours[at % colours.length], width: 1.5 }));
    const options = { width: box.clientWidth, height: 170, series: [{}, ...series], axes: [axis, { ...axis, size: 60 }], cursor: { drag: { setScale: false } } };
    drawn.push(new uPlot(options, data, box));
  }

  async function refresh() {
    let figures;
    try {
      const answer = await fetch(events.dataset.charts);
      if (!answer.ok) return;
      figures = await answer.json();
    } catch { return; }
    const sinks = Object.keys(figures.delivered);
    const data = [[figures.times, figures.accepted, ...sinks.map((name) => figures.delivered[name])], [figures.times, figures.spool_bytes.map((bytes) => bytes / 1e6)]];
    const now = `${sinks} ${events.clientWidth}`;
    if (now !== shape) {
      drawn.forEach((plot) => plot.destroy());
      drawn = []; shape = now;
      draw(events, ["accepted", ...sinks], data[0]);
      draw(spool, ["spool"], data[1]);
    } else {
      drawn.forEach((plot, at) => plot.setData(data[at]));
    }
  }
  refresh();
  setInterval(refresh, 5000);
  addEventListener("resize", refresh);
})();
