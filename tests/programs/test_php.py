"""php: extensions, which it opens with RTLD_DEEPBIND; from the command line, and behind a web server's protocol (php-fpm)."""

import glob
import os
import re
import signal
import socket
import struct

from processes import children, wait_for
from support import FILES, ProgramTest, main

SCRIPT = r"""<?php
foreach (["pdo", "Phar", "tokenizer", "curl", "dom", "gd", "intl", "mbstring", "xml", "SimpleXML", "ctype", "fileinfo", "iconv"] as $name)
    extension_loaded($name) or print("$name is missing\n");

$phar = new Phar("work.phar");
for ($i = 0; $i < 50; $i++) $phar["file$i.txt"] = str_repeat("line $i\n", $i * 20);
unset($phar);
echo strlen(file_get_contents("phar://work.phar/file49.txt")), "\n";

echo count(token_get_all(file_get_contents(__FILE__))), " tokens\n";

$document = new DOMDocument();
$root = $document->appendChild($document->createElement("root"));
for ($i = 0; $i < 3000; $i++) {
    $item = $root->appendChild($document->createElement("item", "text $i"));
    $item->setAttribute("number", $i);
}
$text = $document->saveXML();
echo md5($text), " ", (new DOMXPath($document))->query("//item[@number mod 7 = 0]")->length, "\n";
echo count(simplexml_load_string($text)->item), "\n";
$parser = xml_parser_create();
$starts = 0;
xml_set_element_handler($parser, function () use (&$starts) { $starts++; }, function () {});
xml_parse($parser, $text, true);
echo "$starts elements\n";
libxml_use_internal_errors(true);
var_dump(simplexml_load_string("<broken"));
echo count(libxml_get_errors()), " errors\n";

$image = imagecreatetruecolor(300, 200);
for ($i = 0; $i < 200; $i++) imageellipse($image, $i, $i, 3 * $i, $i, imagecolorallocate($image, $i, 255 - $i, 7));
foreach (["imagepng", "imagegif", "imagebmp"] as $save) {
    ob_start();
    $save($image);
    $bytes = ob_get_clean();
    echo "$save ", md5($bytes), "\n";
    $again = imagecreatefromstring($bytes);
    echo imagesx(imagescale($again, 77)), "\n";
}
ob_start();
imagejpeg($image);
echo imagesy(imagecreatefromstring(ob_get_clean())), "\n";

$words = ["zebra", "Äpfel", "apfel", "Öl", "ol", "ähnlich"];
(new Collator("de_DE"))->sort($words);
echo implode(" ", $words), "\n";
echo (new NumberFormatter("de_DE", NumberFormatter::SPELLOUT))->format(123456), "\n";
echo Transliterator::create("Any-Latin; Latin-ASCII")->transliterate("Москва 東京"), "\n";
echo mb_strtoupper("straße"), " ", mb_strlen(mb_convert_encoding(str_repeat("ü", 5000), "UTF-16LE", "UTF-8"), "8bit"), "\n";
echo strlen(iconv("UTF-8", "UTF-16", str_repeat("é", 1000))), "\n";

echo curl_version()["version_number"] > 0 ? "curl" : "", "\n";
$request = curl_init("file://" . __FILE__);
curl_setopt($request, CURLOPT_RETURNTRANSFER, true);
echo strlen(curl_exec($request)) == filesize(__FILE__) ? "fetched" : curl_error($request), "\n";

echo implode(",", PDO::getAvailableDrivers()), "\n";
try { new PDO("none:x"); } catch (PDOException $e) { echo $e->getMessage(), "\n"; }

$data = [];
for ($i = 0; $i < 100000; $i++) $data["key" . ($i % 5000)][] = str_repeat("v", $i % 100);
echo strlen(serialize($data)), " ", crc32(json_encode($data)), "\n";
gc_collect_cycles();
echo preg_match_all("/v{50,60}/", serialize($data)), "\n";
"""


def record(kind, content):
    """A record of FastCGI, of request 1."""
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def pair(name, text):
    name, text = name.encode(), text.encode()
    return b"".join(struct.pack(">I", len(part) | 0x80000000) for part in (name, text)) + name + text


def fetch(port, script):
    """What a script answers, by FastCGI."""
    parameters = {"SCRIPT_FILENAME": script, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_URI": "/"}
    answer, output, errors = b"", b"", b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(record(1, struct.pack(">HB5x", 1, 0)) +
                           record(4, b"".join(pair(*item) for item in parameters.items())) + record(4, b"") + record(5, b""))
        while data := connection.recv(65536):
            answer += data
    while len(answer) >= 8:
        kind, length, padding = struct.unpack(">xBxxHBx", answer[:8])
        content, answer = answer[8:8 + length], answer[8 + length + padding:]
        output += content if kind == 6 else b""
        errors += content if kind == 7 else b""
    return output.decode(), errors.decode()


class Php(ProgramTest):
    package = "php[0-9].[0-9]-cli"
    needs = ("php",)

    def work(self, run):
        script = run.write("work.php", SCRIPT)
        every = os.path.join(FILES, "extensions.php")
        output = run.commands(["php", "-m"], ["php", "-d", "phar.readonly=0", script], ["php", "--ri", "gd"], ["php", every])
        self.assertNotIn("missing", output)
        self.assertNotIn("Warning", output)
        self.assertIn("fetched\n", output)
        self.assertIn("all used\n", output)
        run.assert_loads("php", "-r", "echo 1;")
        servers = sorted(glob.glob("/usr/sbin/php-fpm[0-9]*"))
        return output + (self.fpm(run, servers[-1], script) if servers else "")

    def fpm(self, run, binary, script):
        os.chmod(run.folder, 0o777)

        def command(port):
            user = "user = www-data\ngroup = www-data" if os.getuid() == 0 else ""
            path = run.write("fpm.conf", f"[global]\nerror_log = {run.folder}/fpm.log\ndaemonize = no\n[www]\n{user}\n"
                                         f"listen = 127.0.0.1:{port}\npm = static\npm.max_children = 2\n")
            return [binary, "--nodaemonize", "-d", "phar.readonly=0", "-d", "ffi.enable=1", "--fpm-config", path]
        server = run.server(command)
        run.assert_on_arenal(*children(server.pid))
        run.write("every.php", run.read(os.path.join(FILES, "extensions.php")))     # where workers may read
        answers = []
        for turn in range(5):
            for file in glob.glob(f"{run.folder}/work.phar"):
                os.remove(file)
            if turn == 4:
                run.memory = 0
                run.measure(server)
                before = set(children(server.pid))
                server.send_signal(signal.SIGUSR2)         # new workers, and a new master in the same process
                wait_for(lambda: (now := set(children(server.pid))) and not now & before, "php-fpm to change its workers")
            output, errors = fetch(server.port, script)
            self.assertEqual(errors, "")
            answers.append(output)
        every, errors = fetch(server.port, run.path("every.php"))
        self.assertIn("all used\n", every + errors)
        run.stop(server)
        self.assertIn("fetched\n", answers[0])
        self.assertEqual(len(set(answers)), 1)
        log = run.read("fpm.log").decode().splitlines()
        self.assertEqual([line for line in log if re.search(r"exited on signal|ERROR|ALERT", line)], [])
        return answers[0] + every + errors


if __name__ == "__main__":
    main()
