"""sqlite3: a database of 100,000 rows, changed, indexed, vacuumed and checked."""

import hashlib

from support import ProgramTest, main

SCRIPT = r"""
.bail on
create table item (id integer primary key, name text, price real, note blob);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
insert into item select i, printf('item %05d of %d', i * 7919 % 100003, i % 97), (i * 31 % 1000) / 10.0,
                        zeroblob(i % 60) from n;
commit;
create index by_name on item (name);
create index by_price on item (price, id);
create table category as select id % 97 as id, count(*) as items, group_concat(name, ';') as names
                         from item group by id % 97;
pragma integrity_check;
select count(*), round(sum(price), 1), min(name), max(name), sum(length(note)) from item;
select length(group_concat(names)) from category;
select a.id, b.id from item a join item b on a.name = b.name and a.id < b.id order by 1 limit 5;
select price, count(*) over (partition by price order by id) from item where price > 99.5 order by id limit 10;
update item set name = upper(name) || ' (changed)' where id % 3 = 0;
delete from item where id % 10 = 0;
vacuum;
create virtual table words using fts5(name);
insert into words select name from item limit 20000;
select count(*) from words where words match 'changed AND 00042*';
select json_group_array(json_object('id', id, 'name', name)) from (select * from item order by name desc limit 5);
pragma integrity_check;
select count(*), round(sum(price), 1) from item;
"""


class Sqlite(ProgramTest):
    package = "sqlite3"
    needs = ("sqlite3",)

    def work(self, run):
        output = run.commands(["sqlite3", "shop.db"], ["sqlite3", "shop.db", ".sha3sum", ".dump item"], text=SCRIPT)
        self.assertEqual(output.count("ok\n"), 2, "both integrity checks are good")
        self.assertIn("100000|", output)
        content = run.read("shop.db")
        self.assertGreater(len(content), 5_000_000)
        run.assert_loads("sqlite3", ":memory:", "select 1")
        return output + hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
