"use strict";
// Draws the charts of open sections, and again when colours, width or the choice of allocators change.

const { allocators, charts } = JSON.parse(document.getElementById("data").textContent);
const kinds = { ratio: ratioChart, line: lineChart };
const hidden = new Set();

function config(canvas) {
    const spec = charts[Number(canvas.dataset.chart)];
    const made = kinds[spec.kind](spec, allocators, theme());
    for (const set of made.data.datasets) set.hidden = hidden.has(set.allocator);
    return made;
}

function draw(canvas) {
    const chart = Chart.getChart(canvas), made = config(canvas);
    if (!chart) return new Chart(canvas, made);
    chart.data = made.data;
    chart.options = made.options;
    chart.update("none");
    return chart;
}

const drawn = () => Array.from(document.querySelectorAll("canvas")).filter(canvas => Chart.getChart(canvas));
const drawAgain = () => drawn().forEach(draw);

// A chart in a closed section has no size: it is drawn when the section is opened.
function drawOpen() {
    for (const canvas of document.querySelectorAll("canvas"))
        if (!Chart.getChart(canvas) && !canvas.closest("details:not([open])")) draw(canvas);
}

document.addEventListener("toggle", drawOpen, true);
dark.addEventListener("change", drawAgain);
narrow.addEventListener("change", drawAgain);

for (const box of document.querySelectorAll(".key input"))
    box.addEventListener("change", () => {
        const allocator = Number(box.dataset.allocator);
        hidden[box.checked ? "delete" : "add"](allocator);
        drawAgain();
    });

// On paper nothing can be opened, and the paper is white.
let opened = [];
addEventListener("beforeprint", () => {
    opened = Array.from(document.querySelectorAll("details.section:not([open])"));
    opened.forEach(one => { one.open = true; });
    document.documentElement.classList.add("paper");
    drawOpen();
    drawAgain();
});
addEventListener("afterprint", () => {
    opened.forEach(one => { one.open = false; });
    document.documentElement.classList.remove("paper");
    drawAgain();
});

// A link to a closed section opens it.
for (const link of document.querySelectorAll('nav a[href^="#"]'))
    link.addEventListener("click", () => { document.getElementById(link.hash.slice(1)).open = true; });

drawOpen();
