"""PostgreSQL: a cluster is made, pgbench writes to it from several connections, queries sort, hash and aggregate in parallel,
a dump is read back by a second database."""

import hashlib
import os
import re

from processes import installed
from support import ProgramTest, main

BINARIES = "/usr/lib/postgresql/*/bin"
QUERY = """
create table item as select i as id, md5(i::text) as name, (i * 7919 % 1000) / 10.0 as price,
       repeat('x', i % 100) as note, array[i, i % 7] as list from generate_series(1, 60000) i;
create index on item (name);
create index on item using gin (list);
analyze item;
set max_parallel_workers_per_gather = 2; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set work_mem = '1MB';
set min_parallel_table_scan_size = 0;
select count(*), sum(price), min(name), max(name), sum(length(note)) from item;
select a.id, b.id from item a join item b on a.id = b.id * 7 + length(b.note) order by 1, 2 limit 10;
select md5(string_agg(name, ',' order by name desc)) from item;
select count(*) from item where list @> array[3];
select price, count(*) over (partition by price order by id) from item where price > 99.5 order by id limit 5;
select regexp_replace(name, '[a-f]+', '-', 'g') from item order by id limit 5;
select jsonb_agg(jsonb_build_object('id', id, 'name', name) order by id) from item where id < 6;
select md5(xmlagg(xmlelement(name item, name) order by id)::text) from item where id < 2000;
do $$ declare n int := 0; begin for i in 1..500 loop begin n := n / (i % 2); exception when division_by_zero then n := n + 1;
end; end loop; raise notice 'n is %', n; end $$;
vacuum full item;
"""


class Postgresql(ProgramTest):
    package = "postgresql-[0-9]*"
    needs = (f"{BINARIES}/initdb", f"{BINARIES}/pgbench")
    user = "nobody"

    def tool(self, name):
        return os.path.join(os.path.dirname(installed(self.needs[0])), name)

    def work(self, run):
        run.command(self.tool("initdb"), "-D", run.path("data"), "--no-sync", "-A", "trust", "-U", "tester", "-E", "UTF8",
                    "--no-locale")

        def command(port):
            return [self.tool("postgres"), "-D", run.path("data"), "-p", str(port), "-h", "127.0.0.1", "-k", run.folder,
                    "-c", "fsync=off", "-c", "dynamic_shared_memory_type=mmap", "-c", "autovacuum_naptime=1s",
                    "-c", "shared_buffers=16MB", "-c", "max_connections=30"]
        ready = self.tool("pg_isready")
        server = run.server(command, lambda port: run.command(ready, "-h", "127.0.0.1", "-p", str(port), status=None).status == 0)
        to = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "tester"]
        ask = [self.tool("psql"), *to, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-A", "-t"]
        run.command(self.tool("createdb"), *to, "shop")
        run.command(self.tool("pgbench"), *to, "-i", "-q", "-s", "2", "shop")
        done = run.command(self.tool("pgbench"), *to, "-c", "8", "-j", "2", "-t", "150", "shop")
        told = re.findall(r"^number of (?:transactions actually processed|failed transactions): .*", done.out, re.M)
        done = run.command(self.tool("pgbench"), *to, "-c", "8", "-j", "2", "-t", "300", "-S", "-M", "prepared", "shop")
        told += re.findall(r"^number of transactions actually processed: .*", done.out, re.M)
        sums = "select sum(abalance) = (select sum(delta) from pgbench_history), count(*) from pgbench_accounts"
        told.append(run.command(*ask, "-c", sums, "shop").out)
        told.append(run.command(*ask, "shop", text=QUERY).out)
        run.memory = 0                      # from here on it is the server's
        run.measure(server)
        dump = run.command(self.tool("pg_dump"), *to, "-t", "item", "shop").out
        told.append(hashlib.sha256(re.sub(r"^--.*|^\\.*restrict.*", "", dump, flags=re.M).encode()).hexdigest())
        run.command(self.tool("createdb"), *to, "again")
        told.append(run.command(*ask, "again", text=dump).out)
        told.append(run.command(*ask, "-c", "select count(*), sum(price), md5(string_agg(name, ',' order by id)) from item",
                                "again").out)
        run.stop(server)
        return "\n".join(told)


if __name__ == "__main__":
    main()
