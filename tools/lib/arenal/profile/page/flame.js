"use strict";
// A flame graph, drawn from the root down. Nodes are numbers: parents come before their children, so that no function calls itself,
// however deep the stacks are. Names are others': they only ever become text.

const data = JSON.parse(document.getElementById("data").textContent);
const graph = document.getElementById("graph"), search = document.getElementById("search"), found = document.getElementById("found");
const COUNT = data.nodes.length / 2 + 1, NARROWEST = 2, WIDE_ENOUGH_FOR_TEXT = 24, MOST_BOXES = 20000;
const KINDS = data.kinds.length;

const parent = new Int32Array(COUNT), nameOf = new Int32Array(COUNT).fill(-1), depth = new Int32Array(COUNT);
const children = Array.from({ length: COUNT }, () => []);
for (let node = 1; node < COUNT; node++) {
    parent[node] = data.nodes[2 * node - 2];
    nameOf[node] = data.nodes[2 * node - 1];
    depth[node] = depth[parent[node]] + 1;
    children[parent[node]].push(node);
}

let before, now, width;         // of each node, with all below it; width: the larger of the two of each stack
let shown = 0, focused = 0, looked = "", matches = null;

function add(kind) {
    [before, now, width] = [new Float64Array(COUNT), new Float64Array(COUNT), new Float64Array(COUNT)];
    for (const [node, ...counts] of data.ends) {
        before[node] += counts[kind];
        now[node] += counts[KINDS + kind];
        width[node] += Math.max(counts[kind], counts[KINDS + kind]);
    }
    for (let node = COUNT - 1; node > 0; node--)
        for (const values of [before, now, width]) values[parent[node]] += values[node];
    for (const list of children) list.sort((a, b) => width[b] - width[a] || nameOf[a] - nameOf[b]);
}

const name = node => node === 0 ? "all" : data.names[nameOf[node]];

function amount(value) {
    if (kind.value % 2 === 0) return Math.round(value).toLocaleString("en") + (Math.abs(value) === 1 ? " block" : " blocks");
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = 0;
    for (; Math.abs(value) >= 1024 && unit + 1 < units.length; unit++) value /= 1024;
    return `${Number(value.toPrecision(3)).toLocaleString("en")} ${units[unit]}`;
}

function describe(node) {
    const change = now[node] - before[node], share = width[0] > 0 ? 100 * width[node] / width[0] : 0;
    if (data.difference)
        return `${change < 0 ? "−" : "+"}${amount(Math.abs(change))}: ${amount(now[node])} now, ${amount(before[node])} before`;
    return `${amount(now[node])}, ${share.toFixed(1)}% of all`;
}

function tell(node) {
    document.getElementById("name").textContent = name(node);
    document.getElementById("value").textContent = describe(node);
}

// Warm colours by name; or by how much of the box is new, or gone.
function paint(box, node) {
    let hue = 0;
    if (data.difference) {
        const change = width[node] > 0 ? (now[node] - before[node]) / width[node] : 0;
        hue = change >= 0 ? 8 : 215;
        box.style.setProperty("--strength", `${Math.round(85 * Math.abs(change))}%`);
    } else {
        for (const letter of name(node)) hue = (hue * 31 + letter.codePointAt(0)) % 4099;
        hue = 20 + hue % 40;
    }
    box.style.setProperty("--hue", hue);
}

function box(node, left, size, above) {
    const one = document.createElement("div");
    one.dataset.node = node;
    one.style.left = `${left}px`;
    one.style.width = `${size}px`;
    one.style.top = `${1.5 * depth[node]}rem`;
    one.setAttribute("role", "treeitem");
    one.setAttribute("aria-level", depth[node] + 1);
    one.setAttribute("aria-label", `${name(node)}, ${describe(node)}`);
    one.tabIndex = node === focused ? 0 : -1;
    if (size >= WIDE_ENOUGH_FOR_TEXT) one.textContent = name(node);
    else one.className = "narrow";
    if (above) one.classList.add("above");
    if (matches && matches[nameOf[node]]) one.classList.add("found");
    paint(one, node);
    return one;
}

// Those above what is shown are as wide as all of it.
function draw() {
    const all = graph.clientWidth, boxes = document.createDocumentFragment();
    let deepest = 0, count = 0;
    for (let node = shown; node !== 0;) {
        node = parent[node];
        boxes.append(box(node, 0, all, true));
    }
    const todo = [[shown, 0, all]];
    while (todo.length > 0 && count++ < MOST_BOXES) {
        const [node, left, size] = todo.pop();
        boxes.append(box(node, left, size, false));
        deepest = Math.max(deepest, depth[node]);
        let at = left;
        for (const child of children[node]) {
            const part = width[node] > 0 ? size * width[child] / width[node] : 0;
            if (part < NARROWEST) break;        // the largest come first
            todo.push([child, at, part]);
            at += part;
        }
    }
    graph.replaceChildren(boxes);
    graph.style.height = `${1.5 * (deepest + 1)}rem`;
}

const boxOf = node => graph.querySelector(`[data-node="${node}"]`);

function focusOn(node) {
    const next = boxOf(node), last = boxOf(focused);
    if (!next) return;
    if (last) last.tabIndex = -1;
    focused = node;
    next.tabIndex = 0;
    next.focus({ preventScroll: false });
    tell(node);
}

function show(node, focus) {
    shown = node;
    focused = node;
    draw();
    tell(node);
    if (focus) focusOn(node);
}

function look() {
    const wanted = search.value.toLowerCase();
    looked = wanted;
    matches = wanted ? data.names.map(text => text.toLowerCase().includes(wanted)) : null;
    let part = 0;
    if (matches) {
        // A function that is in a stack twice counts once.
        const inside = new Uint8Array(COUNT);
        for (let node = 1; node < COUNT; node++) {
            inside[node] = inside[parent[node]] || matches[nameOf[node]];
            if (inside[node] && !inside[parent[node]]) part += width[node];
        }
    }
    const count = matches ? matches.filter(Boolean).length : 0;
    found.textContent = !matches ? "" : `${count} ${count === 1 ? "function" : "functions"}, ${(100 * part / (width[0] || 1)).toFixed(1)}%`;
    draw();
}

function step(node, key) {
    const siblings = node === 0 ? [0] : children[parent[node]], at = siblings.indexOf(node);
    if (key === "ArrowDown") return children[node].find(child => boxOf(child));
    if (key === "ArrowUp") return parent[node];
    if (key === "ArrowRight") return siblings[at + 1];
    if (key === "ArrowLeft") return siblings[at - 1];
    return undefined;
}

graph.addEventListener("click", event => {
    const one = event.target.closest("[data-node]");
    if (one) show(Number(one.dataset.node), true);
});
graph.addEventListener("mouseover", event => {
    const one = event.target.closest("[data-node]");
    if (one) tell(Number(one.dataset.node));
});
graph.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const next = step(focused, event.key);
    if (event.key === "Enter" || event.key === " ") show(focused, true);
    else if (event.key === "Escape") show(parent[shown], true);
    else if (event.key === "Home") show(0, true);
    else if (event.key.startsWith("Arrow")) { if (next !== undefined) focusOn(next); }
    else return;
    event.preventDefault();
});
document.addEventListener("keydown", event => {
    if (event.key !== "/" || event.target === search || event.ctrlKey || event.metaKey) return;
    search.focus();
    event.preventDefault();
});
search.addEventListener("input", look);
document.getElementById("whole").addEventListener("click", () => show(0, false));
const kind = document.getElementById("kind");
kind.addEventListener("change", () => { add(Number(kind.value)); look(); tell(focused); });
let drawnFor = 0;
new ResizeObserver(() => {
    if (graph.clientWidth === drawnFor) return;
    drawnFor = graph.clientWidth;
    draw();
}).observe(graph.parentElement);

add(Number(kind.value));
show(0, false);
