"""sqlite3: a database in memory is filled, indexed, changed and evaluated by a script that comes in on stdin."""

from compare.programs import Batch, expect, find_program, mode, only_in_full

PEOPLE = {"quick": 5000, "full": 25000}

SCRIPT = """
PRAGMA temp_store = memory;
CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, town TEXT, age INTEGER);
CREATE TABLE orders(id INTEGER PRIMARY KEY, person INTEGER, amount INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {people})
  INSERT INTO people SELECT i, printf('person %d', i * 7919 % 20011), printf('town %d', i * 31 % 97), 18 + i % 70
                     FROM n;
WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 4 * {people})
  INSERT INTO orders SELECT i, 1 + i * 104729 % {people}, i * 13 % 1000,
                            substr(printf('%.*c', i % 120, 'x') || hex(i), 1 + i % 7) FROM n;
COMMIT;
CREATE INDEX orders_person ON orders(person);
CREATE INDEX people_town ON people(town, age);
UPDATE orders SET note = note || ' changed', amount = amount + 1 WHERE id % 3 = 0;
DELETE FROM orders WHERE id % 10 = 7;
{updates}
SELECT count(*), sum(amount) FROM orders;
SELECT count(*), sum(total) FROM (SELECT town, sum(amount) AS total, count(DISTINCT age) FROM people
  JOIN orders ON orders.person = people.id GROUP BY town);
SELECT count(*) - count(DISTINCT name) FROM people;
SELECT sum(length(list) - length(replace(list, ';', ''))) FROM
  (SELECT group_concat(name, ';') AS list FROM people GROUP BY town, age);
SELECT count(*) > 0 FROM (SELECT note, count(*) FROM orders GROUP BY note ORDER BY count(*) DESC, note);
PRAGMA integrity_check;
"""


def script(people):
    """Many statements are parsed and prepared, too."""
    updates = "\n".join(f"UPDATE people SET name = 'renamed {n}', age = age + {n % 3} WHERE id = {n * 3 + 1};"
                        for n in range(people // 10))
    return SCRIPT.format(people=people, updates=updates)


def answer(people):
    """What the script has to print, found another way."""
    amounts = {i: i * 13 % 1000 + (i % 3 == 0) for i in range(1, 4 * people + 1) if i % 10 != 7}
    names = {i: f"person {i * 7919 % 20011}" for i in range(1, people + 1)}
    ages = {i: 18 + i % 70 for i in names}
    for n in range(people // 10):
        names[n * 3 + 1] = f"renamed {n}"
        ages[n * 3 + 1] += n % 3
    groups = {(i * 31 % 97, ages[i]) for i in names}
    orders = {1 + i * 104729 % people for i in amounts}
    towns = {i * 31 % 97 for i in orders}
    total = sum(amounts.values())
    return "\n".join([f"{len(amounts)}|{total}", f"{len(towns)}|{total}", str(people - len(set(names.values()))),
                      str(people - len(groups)), "1", "ok"])


class Sqlite(Batch):
    name = "program/sqlite3"
    title = "sqlite3"
    about = "A database in memory: inserts, indexes, updates, deletes, joins and groups, from a script on stdin."
    packages = ["sqlite3"]
    seconds = 2.5

    def command(self, folder, settings):
        return [find_program("sqlite3", "sqlite3"), "-batch", "-bail", "-init", "/dev/null", ":memory:"]

    def standard_input(self, settings):
        return script(PEOPLE[mode(settings)])

    def check(self, finished, launcher, folder, settings):
        expect("sqlite3", finished.output, answer(PEOPLE[mode(settings)]))


CASES = [Sqlite()]


def cases(settings):
    return only_in_full(CASES, settings)
