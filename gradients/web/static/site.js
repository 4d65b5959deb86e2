// What pages do beside htmx: curves, a live part that waits while somebody is in it, uploads, and buttons that fill a field in.
"use strict";

const charts = new WeakMap(); // element -> {plot, names}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function draw(element) {
  const source = document.getElementById(element.dataset.from);
  if (!source) return;
  const { x, series } = JSON.parse(source.getAttribute("value"));
  const names = series.map((each) => each.name).join("\n");
  const data = [x, ...series.map((each) => each.values)];
  const known = charts.get(element);
  if (known && known.names === names && element.firstChild) {
    known.plot.setData(data);
    return;
  }
  element.replaceChildren();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const options = {
    width: element.clientWidth,
    height: Math.max(element.clientHeight - 60, 160), // the legend has the rest
    scales: { x: { time: false } },
    axes: [{ ...axis, label: element.dataset.x || "steps" }, { ...axis, size: 60 }],
    series: [
      { label: "step" },
      ...series.map((each, index) => ({ label: each.name, stroke: colour(`--curve-${(index % 8) + 1}`), width: 2, spanGaps: true, points: { show: false } })),
    ],
  };
  charts.set(element, { plot: new uPlot(options, data, element), names });
}

function drawAll() {
  document.querySelectorAll(".chart").forEach(draw);
}

function redrawAll() {
  document.querySelectorAll(".chart").forEach((element) => {
    charts.delete(element);
    draw(element);
  });
}

let resizing;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(redrawAll, 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
document.addEventListener("DOMContentLoaded", drawAll);
document.addEventListener("htmx:afterSettle", drawAll);

// Whoever has the focus inside a part that renews itself, or selects text there, is not interrupted, not even by what was asked for before.
function isUsed(part) {
  const selection = getSelection();
  const selecting = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  return part.contains(document.activeElement) || selecting;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.target;
  if (part.matches && part.matches("[data-live]") && isUsed(part)) event.preventDefault();
});

// An error has a page too: what a form asks for is shown whatever the status says.
document.addEventListener("htmx:beforeSwap", (event) => {
  const isLive = event.target.matches("[data-live]");
  if (isLive && isUsed(event.target)) event.detail.shouldSwap = false;
  if (!isLive && event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-fill]");
  if (!button) return;
  const field = document.getElementById(button.dataset.fill);
  field.value = button.dataset.value;
  field.focus();
});

document.addEventListener("change", async (event) => {
  const chooser = event.target.closest("input[type=file][data-upload]");
  if (!chooser || !chooser.files.length) return;
  const file = chooser.files[0];
  const said = document.getElementById(chooser.dataset.says);
  said.textContent = `Uploading ${file.name} …`;
  try {
    const answer = await fetch(`${chooser.dataset.upload}?name=${encodeURIComponent(file.name)}`, {
      method: "POST",
      body: file,
      headers: { "X-CSRF-Token": document.querySelector("meta[name=csrf]").content },
    });
    const told = await answer.json();
    if (!answer.ok) throw new Error([told.message, told.fix].filter(Boolean).join(". "));
    const field = document.getElementById(chooser.dataset.into);
    const beside = field.tagName === "TEXTAREA" ? field.value.trim() : ""; // several are merged, one a line
    field.value = [beside, told.dataset].filter(Boolean).join("\n");
    said.textContent = `${file.name} is uploaded.`;
  } catch (error) {
    said.textContent = error.message;
  }
});
