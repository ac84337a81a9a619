// Draws the figures in the colours of the reader's theme, and filters the traces. Without it the tables remain.
(() => {
  "use strict";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function themed(layout) {
    const ink = colour("--ink"), line = colour("--line"), faint = colour("--faint");
    const own = structuredClone(layout);
    own.paper_bgcolor = own.plot_bgcolor = "rgba(0,0,0,0)";
    own.font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink };
    own.hoverlabel = { bgcolor: colour("--card"), bordercolor: line, font: { color: ink } };
    own.autosize = true;
    for (const [name, axis] of Object.entries(own)) {
      if (!/^[xy]axis\d*$/.test(name)) continue;
      const title = axis.title ? { ...axis.title, font: { size: 13, color: faint } } : undefined;
      own[name] = { gridcolor: line, linecolor: line, zerolinecolor: line, tickfont: { color: faint }, ...axis, title };
    }
    for (const menu of own.updatemenus || []) Object.assign(menu, { bgcolor: colour("--card"), bordercolor: line, font: { color: ink } });
    return own;
  }

  function draw() {
    for (const place of document.querySelectorAll("[data-plot]")) {
      const spec = JSON.parse(document.getElementById(place.dataset.plot).textContent);
      for (const trace of spec.data) {
        if (trace.type === "sankey") trace.textfont = { color: colour("--ink"), size: 12, shadow: "none" };
      }
      Plotly.react(place, spec.data, themed(spec.layout), {
        responsive: true,
        displaylogo: false,
        modeBarButtons: [["toImage"]],
        toImageButtonOptions: { format: "svg", filename: place.dataset.plot },
      }).then(() => place.setAttribute("data-drawn", ""));
    }
  }

  function filterTraces() {
    const form = document.getElementById("trace-filter");
    if (!form) return;
    const problems = [...document.querySelectorAll("[data-problem]")];
    const count = document.getElementById("trace-count");
    const wanted = (name) => form.elements[name].value;
    const apply = () => {
      const words = wanted("text").toLowerCase();
      let shown = 0;
      for (const problem of problems) {
        let visible = 0;
        const hasKind = !wanted("kind") || problem.dataset.kinds.split(" ").includes(wanted("kind"));
        const inHead = problem.querySelector("[data-head]").textContent.toLowerCase().includes(words);
        for (const trace of problem.querySelectorAll("[data-trace]")) {
          const fits =
            hasKind &&
            (!wanted("status") || trace.dataset.status === wanted("status")) &&
            (!wanted("round") || trace.dataset.round === wanted("round")) &&
            (!wanted("outcome") || trace.dataset.outcome === wanted("outcome")) &&
            (!words || inHead || trace.textContent.toLowerCase().includes(words));
          trace.hidden = !fits;
          visible += fits;
        }
        problem.hidden = !visible;
        shown += visible;
      }
      const isFiltered = [...new FormData(form).values()].some(Boolean);
      for (const more of document.querySelectorAll("details.more")) {
        if (isFiltered && !more.open) { more.open = true; more.dataset.opened = ""; }
        if (!isFiltered && "opened" in more.dataset) { more.open = false; delete more.dataset.opened; }
        more.hidden = !more.querySelector("[data-problem]:not([hidden])");
      }
      for (const part of document.querySelectorAll("[data-part]")) {
        part.hidden = !part.querySelector("[data-problem]:not([hidden])");
      }
      count.textContent = shown ? `${shown} traces ${isFiltered ? "fit" : "in all"}` : "No trace fits; clear a filter.";
    };
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
    apply();
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  filterTraces();
})();
