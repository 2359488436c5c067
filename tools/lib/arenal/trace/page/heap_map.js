"use strict";
// The map of the heap: a picture of all moments, of which a part can be enlarged, and of one moment.

(() => {
    const { columns, rows, row_bytes: rowBytes, starts, image } = report.map;
    const text = atob(image), level = Uint8Array.from(text, c => c.charCodeAt(0));   // by column, then row
    const map = document.getElementById("map"), grid = document.getElementById("grid"), moment = document.getElementById("moment");
    const where = document.getElementById("where"), play = document.getElementById("play");
    const whole = () => ({ left: 0, right: columns, low: 0, high: Math.max(rows, 1) });
    let view = whole(), drag = null, timer = null;

    // From the page's colour to Arenal's: what holds little must still be seen.
    function palette() {
        const parse = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1).match(/../g)
            .map(two => parseInt(two, 16));
        const from = parse("--page"), to = parse("--allocator-0");
        return Array.from({ length: 256 }, (_, i) => {
            const part = i ? 0.2 + 0.8 * i / 255 : 0;
            return from.map((value, k) => Math.round(value + (to[k] - value) * part));
        });
    }

    function paint(canvas, value) {
        const width = canvas.width = Math.max(1, Math.round(canvas.clientWidth));
        const height = canvas.height = Math.max(1, Math.round(canvas.clientHeight));
        const context = canvas.getContext("2d"), pixels = context.createImageData(width, height), colours = palette();
        for (let y = 0, at = 0; y < height; y++)
            for (let x = 0; x < width; x++, at += 4) {
                const [red, green, blue] = colours[value(x / width, y / height)];
                pixels.data[at] = red;
                pixels.data[at + 1] = green;
                pixels.data[at + 2] = blue;
                pixels.data[at + 3] = 255;
            }
        context.putImageData(pixels, 0, 0);
        return context;
    }

    // Fractions of the canvas to a column and a row.
    const columnAt = x => Math.min(columns - 1, Math.max(0, Math.floor(view.left + x * (view.right - view.left))));
    const rowAt = y => Math.min(rows - 1, Math.max(0, Math.floor(view.high - y * (view.high - view.low))));

    function drawMap() {
        const context = paint(map, (x, y) => rows ? level[columnAt(x) * rows + rowAt(y)] : 0);
        const style = getComputedStyle(document.documentElement);
        const line = (Number(moment.value) + 0.5 - view.left) / (view.right - view.left) * map.width;
        context.fillStyle = style.getPropertyValue("--link");
        context.fillRect(Math.round(line), 0, 1, map.height);
        if (!drag) return;
        context.strokeStyle = style.getPropertyValue("--text");
        context.strokeRect(Math.min(drag.x, drag.toX) * map.width, Math.min(drag.y, drag.toY) * map.height,
                           Math.abs(drag.toX - drag.x) * map.width, Math.abs(drag.toY - drag.y) * map.height);
    }

    function drawGrid() {
        const column = Number(moment.value), wide = Math.max(1, Math.ceil(Math.sqrt(rows * grid.clientWidth / Math.max(1, grid.clientHeight))));
        const high = Math.max(1, Math.ceil(rows / wide));
        paint(grid, (x, y) => {
            const row = Math.floor(y * high) * wide + Math.floor(x * wide);
            return row < rows ? level[column * rows + row] : 0;
        });
    }

    function say(column, row) {
        const time = duration((column + 0.5) / columns * report.ns);
        where.textContent = rows ? `${time}: 0x${starts[row]}, ${bytes(rowBytes)}, ${Math.round(level[column * rows + row] / 2.55)}% full` : time;
    }

    function sayMoment() {
        const column = Number(moment.value);
        let sum = 0;
        for (let row = 0; row < rows; row++) sum += level[column * rows + row];
        where.textContent = `${duration((column + 0.5) / columns * report.ns)}: ${Math.round(sum / (2.55 * Math.max(1, rows)))}% of what was ever used`;
    }

    function draw() {
        drawMap();
        drawGrid();
    }

    const place = event => {
        const box = map.getBoundingClientRect(), inside = value => Math.min(1, Math.max(0, value));
        return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
    };
    map.addEventListener("pointerdown", event => {
        const [x, y] = place(event);
        drag = { x, y, toX: x, toY: y };
        map.setPointerCapture(event.pointerId);
    });
    map.addEventListener("pointermove", event => {
        const [x, y] = place(event);
        if (rows) say(columnAt(x), rowAt(y));
        if (!drag) return;
        drag.toX = x;
        drag.toY = y;
        drawMap();
    });
    map.addEventListener("pointerup", () => {
        const one = drag;
        drag = null;
        if (one && Math.abs(one.toX - one.x) > 0.02 && Math.abs(one.toY - one.y) > 0.02) {
            const width = view.right - view.left, height = view.high - view.low;
            view = { left: view.left + Math.min(one.x, one.toX) * width, right: view.left + Math.max(one.x, one.toX) * width,
                     high: view.high - Math.min(one.y, one.toY) * height, low: view.high - Math.max(one.y, one.toY) * height };
        } else if (one) {
            moment.value = columnAt(one.x);
            sayMoment();
        }
        draw();
    });
    map.addEventListener("pointercancel", () => { drag = null; drawMap(); });
    document.getElementById("whole").addEventListener("click", () => { view = whole(); draw(); });
    moment.addEventListener("input", () => { sayMoment(); draw(); });

    function stop() {
        clearInterval(timer);
        timer = null;
        play.textContent = "Play";
        play.setAttribute("aria-pressed", "false");
    }
    play.addEventListener("click", () => {
        if (timer) return stop();
        if (Number(moment.value) >= columns - 1) moment.value = 0;
        play.textContent = "Stop";
        play.setAttribute("aria-pressed", "true");
        timer = setInterval(() => {
            moment.value = Number(moment.value) + 2;
            sayMoment();
            draw();
            if (Number(moment.value) >= columns - 1) stop();
        }, 40);
    });

    dark.addEventListener("change", draw);
    addEventListener("resize", draw);
    sayMoment();
    draw();
})();
