"use strict";
// The charts of a report; the heap's map is in heap_map.js.

const report = JSON.parse(document.getElementById("data").textContent);
const step = report.ns / report.steps.length;   // nanoseconds

function bytes(value) {
    for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
        if (value >= size) return `${number(value / size)} ${unit}`;
    return `${number(value)} B`;
}

const colourOf = index => getComputedStyle(document.documentElement).getPropertyValue(`--allocator-${index % 8}`).trim();

function options(look, show, xTicks, stacked) {
    return {
        responsive: true, maintainAspectRatio: false, animation: false,
        interaction: { mode: "index", axis: "x", intersect: false },
        scales: {
            x: { ...xTicks, stacked, grid: { color: look.grid, borderColor: look.axis } },
            y: { stacked, beginAtZero: true, grid: { color: look.grid, borderColor: look.axis },
                 ticks: { color: look.muted, maxTicksLimit: 7, callback: show } },
        },
        plugins: { legend: { display: false }, tooltip: {
            ...tooltip(look, item => `${item.dataset.label} ${show(item.parsed.y)}`), filter: item => item.parsed.y > 0 } },
    };
}

function lines(look, show, ...sets) {
    const time = { type: "linear", max: report.ns, ticks: { color: look.muted, maxRotation: 0, maxTicksLimit: 6, callback: duration } };
    const made = options(look, show, time, false);
    made.plugins.tooltip.callbacks.title = items => items.length ? duration(items[0].parsed.x) : "";
    if (sets.length > 1) made.plugins.legend = { display: true, labels: { color: look.text, boxWidth: 14 } };
    return {
        type: "line", options: made,
        data: { datasets: sets.map(([label, value], i) => ({
            label, data: report.steps.map((one, k) => ({ x: (k + 0.5) * step, y: value(one) })), borderWidth: 1.75, pointRadius: 0,
            borderColor: colourOf(i ? 2 : 0), backgroundColor: colourOf(i ? 2 : 0), borderDash: DASHES[i], stepped: "middle",
        })) },
    };
}

function bars(look, show, labels, sets) {
    const names = { ticks: { color: look.muted, maxRotation: 90, autoSkip: true, autoSkipPadding: 6 } };
    const made = options(look, show, names, true);
    if (sets.length > 1) made.plugins.legend = { display: !look.narrow, labels: { color: look.text, boxWidth: 14 } };
    return { type: "bar", options: made, data: { labels, datasets: sets.map(([label, data], i) => ({
        label, data, backgroundColor: colourOf(i), barPercentage: 1, categoryPercentage: 0.95 })) } };
}

const perSecond = 1e9 / (step || 1);
const kinds = {
    bytes: look => lines(look, bytes, ["live", one => one[0]]),
    blocks: look => lines(look, number, ["live", one => one[1]]),
    calls: look => lines(look, number, ["allocations", one => one[2] * perSecond], ["frees", one => one[3] * perSecond]),
    rate: look => lines(look, bytes, ["allocated", one => one[4] * perSecond]),
    size_calls: look => bars(look, number, report.sizes.map(one => one.to), [["allocations", report.sizes.map(one => one.calls)]]),
    size_bytes: look => bars(look, bytes, report.sizes.map(one => one.to),
                             report.threads.map((name, k) => [shorten(name, 24), report.sizes.map(one => one.by[k])])),
    life: look => bars(look, number, report.lives.map(one => one[0]), [["blocks", report.lives.map(one => one[1])]]),
};

function drawCharts() {
    for (const [id, make] of Object.entries(kinds)) {
        const canvas = document.getElementById(id), chart = Chart.getChart(canvas), made = make(theme());
        if (!chart) new Chart(canvas, made);
        else {
            chart.data = made.data;
            chart.options = made.options;
            chart.update("none");
        }
    }
}

dark.addEventListener("change", drawCharts);
narrow.addEventListener("change", drawCharts);
addEventListener("beforeprint", () => { document.documentElement.classList.add("paper"); drawCharts(); });
addEventListener("afterprint", () => { document.documentElement.classList.remove("paper"); drawCharts(); });
drawCharts();
