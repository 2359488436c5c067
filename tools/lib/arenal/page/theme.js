"use strict";
// What the charts look like: taken from the style sheet, so that there is one place for colours.

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const DASHES = [[], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [12, 4], [1, 3], [6, 2, 1, 2, 1, 2]];

function theme() {
    const style = getComputedStyle(document.documentElement);
    const read = name => style.getPropertyValue(name).trim();
    return {
        text: read("--text"), muted: read("--muted"), grid: read("--grid"), axis: read("--axis"), page: read("--page"),
        colour: allocator => read(`--allocator-${allocator.colour}`), narrow: narrow.matches,
    };
}

function axisTitle(text, look) {
    return { display: Boolean(text), text, color: look.muted, font: { size: 12 } };
}

function tooltip(look, label, title) {
    return {
        backgroundColor: look.text, titleColor: look.page, bodyColor: look.page, usePointStyle: true, boxPadding: 4,
        filter: item => !item.dataset.range, callbacks: { label, ...(title && { title }) },
    };
}

function shorten(text, length) {
    if (text.length <= length) return text;
    const half = Math.floor(length / 2);
    return text.slice(0, half - 1) + "…" + text.slice(-half);
}

function number(value) {
    if (value >= 1000) return Math.round(value).toLocaleString("en");
    return String(Number(value.toPrecision(3)));
}

function duration(nanoseconds) {
    for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]])
        if (nanoseconds >= size) return `${number(nanoseconds / size)} ${unit}`;
    return `${number(nanoseconds)} ns`;
}
