"use strict";
// Lines: over time, over thread counts, over percentiles. With labels, the x axis has one place for each of them.

function lineChart(spec, allocators, look) {
    const show = spec.log ? duration : value => `${number(value)}${spec.unit}`;
    const few = Boolean(spec.labels);
    return {
        type: "line",
        data: {
            labels: spec.labels || undefined,
            datasets: spec.sets.map(set => {
                const allocator = allocators[set.allocator], colour = look.colour(allocator);
                return {
                    label: allocator.name, allocator: set.allocator,
                    data: few ? set.points : set.points.map(([x, y]) => ({ x, y })),
                    borderColor: colour, backgroundColor: colour, pointStyle: allocator.shape,
                    borderWidth: allocator.own ? 3 : 1.75, borderDash: DASHES[allocator.colour % DASHES.length],
                    order: allocator.own ? 0 : 1, spanGaps: true,
                    pointRadius: few ? (allocator.own ? 4.5 : 3.5) : 0, pointHoverRadius: 5, pointHitRadius: 8,
                };
            }),
        },
        options: {
            responsive: true, maintainAspectRatio: false, animation: false,
            interaction: { mode: few ? "index" : "nearest", axis: "x", intersect: false },
            layout: { padding: { right: 8, top: 6 } },
            scales: { x: placeAxis(spec, look), y: valueAxis(spec, look) },
            plugins: {
                legend: { display: false },
                tooltip: tooltip(look, item => `${item.dataset.label} ${show(item.parsed.y)}`,
                    items => items.length ? placeLabel(spec, items[0]) : ""),
            },
        },
    };
}

function placeLabel(spec, item) {
    return `${spec.labels ? item.label : number(item.parsed.x)} ${spec.xUnit}`;
}

function placeAxis(spec, look) {
    return {
        type: spec.labels ? "category" : "linear", title: axisTitle(spec.x, look),
        grid: { color: look.grid, borderColor: look.axis },
        ticks: { color: look.muted, maxRotation: 0, autoSkipPadding: 10 },
    };
}

function valueAxis(spec, look) {
    const base = { title: axisTitle(spec.y, look), grid: { color: look.grid, borderColor: look.axis } };
    if (!spec.log)
        return { ...base, type: "linear", beginAtZero: true, ticks: { color: look.muted, maxTicksLimit: 7 } };
    return {
        ...base, type: "logarithmic",
        afterBuildTicks: axis => {
            axis.ticks = axis.ticks.filter(tick => Math.abs(Math.log10(tick.value) % 1) < 1e-9);
        },
        ticks: { color: look.muted, callback: value => duration(value) },
    };
}
