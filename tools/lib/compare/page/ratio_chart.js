"use strict";
// A dot plot: a row for each case, a dot for each allocator, a bar behind it from the lowest to the highest round.

const RATIO_TICKS = {
    near: [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.35, 1.5, 1.75, 2],
    middle: [0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5],
    far: [0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10000, 100000],
};

function ratioChart(spec, allocators, look) {
    const dots = [], ranges = [];
    for (const set of spec.sets) {
        const allocator = allocators[set.allocator], colour = look.colour(allocator);
        dots.push({
            type: "line", label: allocator.name, allocator: set.allocator, showLine: false, data: set.points,
            pointStyle: allocator.shape, order: allocator.own ? 0 : 1,
            backgroundColor: colour, borderColor: colour, pointBorderWidth: 1.5,
            pointRadius: allocator.own ? 6 : 4.5, pointHoverRadius: 7, clip: false,
        });
        ranges.push({
            type: "bar", range: true, label: allocator.name, allocator: set.allocator, data: set.ranges, grouped: false,
            backgroundColor: colour + (allocator.own ? "80" : "40"),
            barThickness: allocator.own ? 6 : 3, minBarLength: 1,
            order: allocator.own ? 2 : 3,
        });
    }
    return {
        data: { labels: spec.labels.map((_, row) => row), datasets: [...dots, ...ranges] },
        options: {
            indexAxis: "y", responsive: true, maintainAspectRatio: false, animation: false,
            layout: { padding: { right: 12 } },
            interaction: { mode: "index", axis: "y", intersect: false },
            scales: { x: ratioAxis(spec, look), y: caseAxis(spec, look) },
            plugins: {
                legend: { display: false },
                tooltip: tooltip(look, item => ratioLabel(spec, item),
                    items => items.length ? spec.labels[items[0].dataIndex] : ""),
            },
        },
    };
}

function ratioLabel(spec, item) {
    const range = spec.sets.find(set => set.allocator === item.dataset.allocator).ranges[item.dataIndex];
    const spread = range ? ` (${number(range[0])} to ${number(range[1])})` : "";
    return `${item.dataset.label} ${number(item.raw)}${spread}`;
}

function ratioAxis(spec, look) {
    return {
        type: "logarithmic", position: "top", min: spec.low, max: spec.high, title: axisTitle(spec.x, look),
        afterBuildTicks: axis => {
            const extent = axis.max / axis.min * (look.narrow ? 2 : 1);
            const wanted = RATIO_TICKS[extent < 3.2 ? "near" : extent < 16 ? "middle" : "far"];
            axis.ticks = wanted.filter(one => one >= axis.min && one <= axis.max).map(value => ({ value }));
        },
        ticks: { color: look.muted, callback: value => String(value), maxRotation: 0, autoSkipPadding: 8 },
        grid: {
            z: -1,      // below the labels of the rows, and those below the dots
            color: context => context.tick.value === 1 ? look.axis : look.grid,
            lineWidth: context => context.tick.value === 1 ? 2 : 1, drawBorder: false,
        },
    };
}

function caseAxis(spec, look) {
    return {
        type: "category", offset: true, grid: { display: false, drawBorder: false },
        ticks: {
            autoSkip: false, color: look.text, font: { size: 12 }, mirror: look.narrow, padding: look.narrow ? 0 : 6,
            labelOffset: look.narrow ? -14 : 0, z: 0,
            showLabelBackdrop: look.narrow, backdropColor: look.page, backdropPadding: 1,
            callback: row => shorten(spec.labels[row], look.narrow ? 44 : 36),
        },
    };
}
