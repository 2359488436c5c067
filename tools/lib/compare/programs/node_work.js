// What node does under each allocator: a service's work on objects, buffers, strings and JSON.
//
//     node node_work.js ROUNDS
//
// V8 maps the heap of JavaScript's objects itself. What reaches malloc are buffers, compression, digests, parsed and
// compiled code, and the engine's own records. Prints one line: a number that depends on every result.
"use strict";

const crypto = require("crypto");
const zlib = require("zlib");

let state = 1;
function random(limit) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % limit;
}

let total = 0;
function add(text) {
    const digest = crypto.createHash("sha256").update(String(total)).update(text).digest();
    total = digest.readUInt32LE(0);
}

function fail(what) {
    console.error(`${what} came back changed`);
    process.exit(1);
}

function objects() {
    const people = new Map();
    for (let i = 0; i < 8000; i++) {
        const id = random(5000);
        const person = people.get(id) || { id, name: `person ${id}`, visits: [], tags: new Set() };
        person.visits.push({ at: i, place: `place ${random(100)}` });
        person.tags.add(`tag ${random(40)}`);
        people.set(id, person);
        if (i % 7 === 0)
            people.delete(random(5000));
    }
    let sum = 0;
    for (const person of people.values())
        sum += person.visits.length * person.id + person.tags.size;
    add(`${people.size} ${sum}`);
}

function json() {
    for (let i = 0; i < 20; i++) {
        const rows = [];
        for (let row = 0; row < 100; row++)
            rows.push({ row, text: "text ".repeat(random(12)), numbers: [random(1000), random(1000)], none: null });
        const text = JSON.stringify({ i, rows }, null, i % 3);
        const again = JSON.parse(text);
        if (JSON.stringify(again, null, i % 3) !== text)
            fail("JSON");
        add(text);
    }
}

// Buffers of mixed sizes, some of which outlive the round; those of more than 4 KiB have a block of their own.
const kept = [];
function buffers() {
    for (let i = 0; i < 1500; i++) {
        const buffer = Buffer.alloc(16 << random(12), i & 255);
        buffer.writeUInt32LE(i, buffer.length - 4);
        if (i % 3 === 0)
            kept[random(400)] = buffer;
        if (i % 100 === 0)
            add(Buffer.concat([buffer, Buffer.from(`piece ${i}`)]));
    }
    let sum = 0;
    for (const buffer of kept)
        if (buffer) {
            if (buffer[0] !== (buffer.readUInt32LE(buffer.length - 4) & 255))
                fail("a buffer");
            sum += buffer.length;
        }
    add(String(sum));
}

function strings() {
    let page = "";
    for (let i = 0; i < 6000; i++)
        page += `<li id=${i}>${random(1000)} käse</li>\n`;
    const lines = page.split("\n").map(line => line.replace(/<(\w+)/g, "[$1").toUpperCase());
    add(lines.filter((line, i) => i % 3).join("|"));
    const bytes = Buffer.from(page, "utf8");
    if (bytes.toString("utf8") !== page)
        fail("UTF-8");
    const packed = zlib.deflateSync(bytes, { level: 1 });
    if (!zlib.inflateSync(packed).equals(bytes))
        fail("compressed data");
}

const rounds = Number(process.argv[2]);
for (let round = 0; round < rounds; round++)
    for (const work of [objects, json, buffers, strings])
        work();
console.log(`result ${total}`);
