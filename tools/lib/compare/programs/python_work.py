"""What python3 does under each allocator: the everyday work of scripts, in the manner of pyperformance's benchmarks.

    PYTHONMALLOC=malloc python3 python_work.py ROUNDS

Without PYTHONMALLOC, Python's own allocator would serve most blocks from arenas of its own. Prints one line: a number
that depends on every result, and that is the same for each allocator and each version of Python.
"""

import json
import pickle
import random
import re
import sys
import zlib

WORDS = ["allocator", "buffer", "cache", "deadline", "event", "frame", "garbage", "heap", "index", "job", "kernel",
         "latency", "message", "node", "object", "page", "queue", "request", "session", "thread"]


class Node:
    """A node of a binary search tree; an object with a dictionary, as most are."""

    def __init__(self, key, value):
        self.key = key
        self.value = value
        self.left = None
        self.right = None


class Order:
    __slots__ = ("number", "customer", "lines", "state")

    def __init__(self, number, customer):
        self.number = number
        self.customer = customer
        self.lines = []
        self.state = "new"

    def __reduce__(self):
        return restore_order, (self.number, self.customer, self.lines, self.state)


def restore_order(number, customer, lines, state):
    order = Order(number, customer)
    order.lines, order.state = lines, state
    return order


def json_documents(chosen):
    """Documents are built, written, read and changed."""
    total = 0
    for number in range(40):
        document = {"id": number, "name": " ".join(chosen.choices(WORDS, k=4)), "price": chosen.randrange(10000) / 4,
                    "tags": chosen.choices(WORDS, k=chosen.randrange(12)), "valid": chosen.random() < 0.5,
                    "rows": [{"row": row, "text": chosen.choice(WORDS) * chosen.randrange(1, 9), "none": None}
                             for row in range(chosen.randrange(60))]}
        text = json.dumps(document, sort_keys=True, indent=number % 3 or None)
        again = json.loads(text)
        if again != document:
            raise SystemExit("JSON came back changed")
        again["rows"] = [row for row in again["rows"] if row["row"] % 3]
        total = zlib.crc32(json.dumps(again, sort_keys=True).encode(), total)
    return total


def regular_expressions(chosen):
    """A log is taken apart and put together again."""
    lines = [f"2024-{chosen.randrange(1, 13):02}-{chosen.randrange(1, 29):02} {chosen.choice(WORDS)}[{number}]: "
             f"took {chosen.randrange(9000)} ms, \"{' '.join(chosen.choices(WORDS, k=6))}\"" for number in range(600)]
    text = "\n".join(lines)
    times = {}
    for match in re.finditer(r'^(\S+) (?P<unit>\w+)\[\d+\]: took (?P<ms>\d+) ms, "([^"]*)"$', text, re.MULTILINE):
        times.setdefault(match["unit"], []).append(int(match["ms"]))
    text = re.sub(r"(\w)(\w*)", lambda match: match[2] + match[1], text)
    parts = re.split(r"[\s,]+", text)
    return sum(map(sum, times.values())) + zlib.crc32(" ".join(parts).encode()) + len(parts)


def dictionaries(chosen):
    """Counting, grouping and throwing away."""
    counts, groups = {}, {}
    for _ in range(9000):
        key = (chosen.choice(WORDS), chosen.randrange(300))
        counts[key] = counts.get(key, 0) + 1
        groups.setdefault(key[0], set()).add(f"{key[0]}-{key[1]}")
    for key in [key for key in counts if key[1] % 3 == 0]:
        del counts[key]
    return sum(count * key[1] for key, count in counts.items()) + sum(map(len, groups.values()))


def objects(chosen):
    """A tree grows by one object per key, and is walked."""
    root = Node(chosen.random(), 0)
    for number in range(1, 2500):
        key, node = chosen.random(), root
        while True:
            side = "left" if key < node.key else "right"
            child = getattr(node, side)
            if child is None:
                setattr(node, side, Node(key, number))
                break
            node = child
    order, stack, node = [], [], root
    while stack or node:
        while node:
            stack.append(node)
            node = node.left
        node = stack.pop()
        order.append(node.value)
        node = node.right
    return zlib.crc32(repr(order).encode())


def pickles(chosen):
    orders = []
    for number in range(400):
        order = Order(number, f"customer {chosen.randrange(50)}")
        order.lines = [(chosen.choice(WORDS), chosen.randrange(100), bytes(chosen.randrange(200)))
                       for _ in range(chosen.randrange(15))]
        orders.append(order)
    again = pickle.loads(pickle.dumps(orders, protocol=4))
    if [order.lines for order in again] != [order.lines for order in orders]:
        raise SystemExit("a pickle came back changed")
    return sum(len(order.lines) * order.number + len(order.customer) for order in again)


def sorting(chosen):
    rows = [(chosen.choice(WORDS), chosen.randrange(1000), chosen.random()) for _ in range(6000)]
    rows.sort(key=lambda row: (row[1], row[0], row[2]))
    rows = sorted(rows, key=lambda row: row[0][::-1], reverse=True)
    merged = sorted(sorted(rows[::2]) + sorted(rows[1::2]))
    return sum(position * row[1] for position, row in enumerate(merged))


def strings(chosen):
    """Built piece by piece, joined, split, replaced, encoded."""
    page = ""
    for number in range(2500):
        page += f"<li id={number}>{chosen.choice(WORDS)}</li>\n"
    lines = [line.upper().replace("LI", "p").strip("<>") for line in page.splitlines()]
    grown = bytearray()
    for line in lines:
        grown += line.encode("utf-16-le")
    return zlib.crc32(grown) + sum(len(line.split("=")) for line in lines)


def main():
    rounds = int(sys.argv[1])
    chosen = random.Random(1)
    total = 0
    kept = []   # results that live on while the next ones come and go
    for number in range(rounds):
        for work in (json_documents, regular_expressions, dictionaries, objects, pickles, sorting, strings):
            result = work(chosen)
            total = zlib.crc32(f"{work.__name__} {result}".encode(), total)
            kept.append([str(result + step) for step in range(number * 97 % 1000)])
        del kept[:len(kept) // 3]
    print(f"result {total}")


if __name__ == "__main__":
    main()
