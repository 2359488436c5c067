"""Apache: the event module with threads, compression, a proxy to itself; the prefork module with mod_php. Restarts."""

import os
import signal

import web
from processes import children, installed, wait_for
from support import ProgramTest, main

CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
ErrorLog {folder}/error.log
LogLevel notice
{user}
{modules}
DocumentRoot {folder}/www
<Directory {folder}/www>
    Require all granted
</Directory>
MaxRequestsPerChild 500
KeepAlive On
MaxKeepAliveRequests 0
"""
EVENT = """
StartServers 2
ThreadsPerChild 16
MaxRequestWorkers 32
AddOutputFilterByType DEFLATE text/plain
DefaultType None
<FilesMatch "small|large|empty">
    ForceType text/plain
</FilesMatch>
ProxyPass /proxied/ http://127.0.0.1:{port}/
CustomLog {folder}/access_log "%h %r %s"
"""
PREFORK = """
StartServers 4
MaxRequestWorkers 20
<FilesMatch "\\.php$">
    SetHandler application/x-httpd-php
</FilesMatch>
"""
SCRIPT = """<?php
$made = [];
for ($i = 0; $i < 3000; $i++) $made["key$i"] = str_repeat(md5($i), $i % 20);
usort($made, 'strcmp');
echo md5(serialize($made)), preg_replace('/[a-f]+/', '-', substr(implode(' ', $made), 0, 500)), "\\n";
$document = new DOMDocument();
$document->loadXML('<r>' . str_repeat('<i>text</i>', 500) . '</r>');
echo $document->getElementsByTagName('i')->length, json_encode(array_map('mb_strtoupper', ['stra\u00dfe'])), "\\n";
"""
MODULES = "/usr/lib/apache2/modules"


class Apache(ProgramTest):
    package = "apache2-bin"
    needs = ("apache2",)
    # On a busy machine, a child of the event module crashes now and then when it has to end at once.
    own_crash = r"AH00052: child pid \d+ exit signal Segmentation fault.*\n.*AH00491: caught SIGTERM, shutting down"

    def work(self, run):
        told = self.serve(run, "event", EVENT, ["authz_core", "authz_host", "filter", "deflate", "proxy", "proxy_http"],
                          ["/small", "/large", "/empty", "/proxied/small"])
        php = installed(f"{MODULES}/libphp*.so")
        if php:
            told += self.serve(run, "prefork", PREFORK, ["authz_core", "mime", php], ["/work.php", "/small"])
        return told

    def serve(self, run, kind, more, modules, paths):
        web.fill(run, "www")
        run.write("www/work.php", SCRIPT)
        run.write("mime.types", "")
        lines = [f"LoadModule mpm_{kind}_module {MODULES}/mod_mpm_{kind}.so"]
        for name in modules:
            lines.append(f"LoadModule php_module {name}" if "/" in name else f"LoadModule {name}_module {MODULES}/mod_{name}.so")
        if "mime" in modules:
            lines.append(f"TypesConfig {run.folder}/mime.types")

        def command(port):
            values = {"folder": run.folder, "port": port, "modules": "\n".join(lines),
                      "user": "User www-data\nGroup www-data" if os.getuid() == 0 else ""}
            path = run.write("apache.conf", (CONFIGURATION + more).format(**values))
            return ["apache2", "-DFOREGROUND", "-f", path]
        server = run.server(command)
        wait_for(lambda: len(children(server.pid)) >= 2, "apache to start its children")
        run.assert_on_arenal(*children(server.pid))
        told = [web.get_many(server.port, paths, times=20), web.get_many(server.port, paths, times=5,
                                                                           headers={"Accept-Encoding": "gzip"})]
        run.measure(server)
        before = set(children(server.pid))
        server.send_signal(signal.SIGUSR1)              # new children, when the old ones have said all
        wait_for(lambda: not set(children(server.pid)) & before, "apache to change its children")
        told.append(web.get_many(server.port, paths, times=5))
        run.stop(server)
        return "\n".join(told)


if __name__ == "__main__":
    main()
