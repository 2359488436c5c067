"""php: extensions, which it opens with RTLD_DEEPBIND; from the command line, and behind a web server's protocol (php-fpm)."""

import glob
import os
import re
import signal
import socket
import struct
import unittest

from support import ProgramTest, accepts, wait_for

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
    def test_same_output(self):
        script = self.write("work.php", SCRIPT)
        output, _ = self.compare(["php", "-m"], ["php", "-d", "phar.readonly=0", script], ["php", "--ri", "gd"])
        self.assertNotIn("missing", output)
        self.assertNotIn("Warning", output)
        self.assertIn("fetched\n", output)

    def test_loaded(self):
        self.assert_runs_on_arenal("php", "-r", "echo 1;")

    def test_fpm(self):
        servers = glob.glob("/usr/sbin/php-fpm*")
        if not servers:
            self.skipTest("php-fpm is not installed")
        script = self.write("work.php", SCRIPT)
        os.chmod(self.folder, 0o777)
        answers = []
        for on_arenal in (False, True):
            def command(port):
                user = "user = www-data\ngroup = www-data" if os.getuid() == 0 else ""
                path = self.write("fpm.conf", f"[global]\nerror_log = {self.folder}/fpm.log\ndaemonize = no\n[www]\n{user}\n"
                                              f"listen = 127.0.0.1:{port}\npm = static\npm.max_children = 2\n")
                return [servers[-1], "--nodaemonize", "-d", "phar.readonly=0", "--fpm-config", path]
            server, port = self.start_server(command, accepts, on_arenal)
            if on_arenal:
                for pid in self.workers(server.pid):
                    self.assert_process_on_arenal(pid)
            for _ in range(4):
                for file in glob.glob(f"{self.folder}/work.phar"):
                    os.remove(file)
                output, errors = fetch(port, script)
                self.assertEqual(errors, "")
                answers.append(output)
            before = self.workers(server.pid)
            server.send_signal(signal.SIGUSR2)         # new workers, and a new master in the same process
            wait_for(lambda s=server, b=before: self.workers(s.pid) and not self.workers(s.pid) & b, "php-fpm to change its workers")
            answers.append(fetch(port, script)[0])
            self.stop_server(server, expected=0)
        self.assertIn("fetched\n", answers[0])
        for answer in answers:
            self.assertEqual(answer, answers[0])
        with open(f"{self.folder}/fpm.log", encoding="utf-8") as file:
            self.assertEqual([line for line in file if re.search(r"exited on signal|ERROR|ALERT", line)], [])

    def workers(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
            return {int(child) for child in file.read().split()}


if __name__ == "__main__":
    unittest.main()
