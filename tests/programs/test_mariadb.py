"""MariaDB: a server's threads under inserts, updates and queries of several clients at once, a dump that is read back."""

import concurrent.futures
import re

from support import ProgramTest, main

FILL = """
create database shop; use shop;
create table item (id int primary key, name varchar(60), price decimal(8, 1), note text, key (name), fulltext (note)) engine=InnoDB;
insert into item select seq, md5(seq), (seq * 7919 % 1000) / 10, repeat(concat('word', seq % 50, ' '), seq % 30) from seq_1_to_20000;
create table log (id int auto_increment primary key, client int, text varchar(200)) engine=InnoDB;
create table old engine=MyISAM select * from item;
create table safe engine=Aria select * from item;
"""
QUERY = """
select count(*), sum(price), min(name), max(name), sum(length(note)) from item;
select a.id, b.id from item a join item b on a.id = b.id * 7 + length(b.note) % 100 order by 1, 2 limit 10;
select price, count(*) over (partition by price order by id) from item where price > 99.5 order by id limit 5;
select md5(group_concat(name order by name desc)) from old where id < 3000;
select count(*) from item where match (note) against ('word7');
select regexp_replace(name, '[a-f]+', '-') from safe order by id limit 5;
select json_arrayagg(json_object('id', id, 'name', name) order by id) from item where id < 6;
"""
CLIENTS, TURNS = 6, 120


class Mariadb(ProgramTest):
    package = "mariadb-server-core*"
    needs = ("mariadbd", "mariadb", "mariadb-install-db", "mariadb-dump")
    user = "nobody"

    def work(self, run):
        run.make("tmp")
        run.command("mariadb-install-db", "--no-defaults", f"--datadir={run.path('data')}",
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db", f"--tmpdir={run.path('tmp')}", "--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M")

        def command(port):
            return ["mariadbd", "--no-defaults", f"--datadir={run.path('data')}", f"--port={port}", "--bind-address=127.0.0.1",
                    f"--socket={run.path('socket')}", f"--pid-file={run.path('pid')}", f"--tmpdir={run.path('tmp')}",
                    "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0",
                    "--key-buffer-size=4M", "--aria-pagecache-buffer-size=8M", "--group-concat-max-len=1000000"]
        ask = ["mariadb", "--no-defaults", "-u", "root", f"--socket={run.path('socket')}", "-N", "-B"]
        server = run.server(command, lambda port: run.command(*ask, "-e", "select 1", status=None).status == 0)
        run.command(*ask, text=FILL)

        def client(number):
            lines = []
            for turn in range(TURNS):
                lines += [f"insert into log (client, text) values ({number}, '{'t' * (turn + number)}');",
                          "start transaction;",
                          f"update item set price = price + 1 where id between {number * 1000} and {number * 1000 + 9};",
                          "commit;",
                          f"select sum(length(name)) from item where id > {turn * 100} and id <= {turn * 100 + 500};"]
            return run.command(*ask, "shop", text="\n".join(lines)).out
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            told = list(pool.map(client, range(1, CLIENTS + 1)))
        told.append(run.command(*ask, "shop", text=QUERY).out)
        told.append(run.command(*ask, "-e", "select client, count(*), sum(length(text)) from log group by client", "shop").out)
        run.memory = 0                      # from here on it is the server's
        run.measure(server)
        dump = run.command("mariadb-dump", "--no-defaults", "-u", "root", f"--socket={run.path('socket')}", "--skip-comments",
                           "--skip-dump-date", "shop", "item", "old", "safe").out
        run.command(*ask, "-e", "create database again")
        run.command(*ask, "again", text=dump)
        told.append(re.sub(r"again\.", "", run.command(*ask, "-e", "checksum table item, old, safe", "again").out))
        run.stop(server)
        return "\n".join(told)


if __name__ == "__main__":
    main()
