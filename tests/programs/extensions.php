<?php // A program of test_php.py: uses each extension that is there.
ob_start(); // or soap could not send its headers
foreach (get_loaded_extensions() as $name) {
    $extension = new ReflectionExtension($name);
    echo $name, " ", count($extension->getFunctions()), " ", count($extension->getClasses()), "\n";
}
$uses = [
    "bcmath" => fn() => md5(bcpow("123456789", "200")) . bcsqrt("2", 100),
    "bz2" => fn() => md5(bzdecompress(bzcompress(str_repeat("text ", 50000)))),
    "calendar" => fn() => cal_days_in_month(CAL_GREGORIAN, 2, 2024),
    "dba" => fn() => implode(",", dba_handlers()),
    "enchant" => fn() => count(enchant_broker_describe(enchant_broker_init())),
    "FFI" => fn() => FFI::sizeof(FFI::new("char[5000]")),
    "gmp" => fn() => md5(gmp_strval(gmp_fact(500))),
    "imap" => fn() => imap_utf7_encode("Entw\xfcrfe") . count(imap_rfc822_parse_adrlist("a@example.org, b@example.org", "")),
    "ldap" => fn() => ldap_escape("a*b(c)", "", LDAP_ESCAPE_FILTER) . ldap_get_option(ldap_connect("ldap://127.0.0.1:1"), LDAP_OPT_PROTOCOL_VERSION, $v) . $v,
    "mysqli" => function () {
        mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
        try { new mysqli("127.0.0.1", "nobody", "", "", 1); } catch (mysqli_sql_exception $e) { return $e->getMessage(); }
    },
    "odbc" => fn() => gettype(@odbc_connect("nothing", "", "")),
    "openssl" => fn() => md5(openssl_encrypt(str_repeat("secret", 1000), "aes-256-cbc", str_repeat("k", 32), 0, str_repeat("i", 16))),
    "pgsql" => fn() => gettype(@pg_connect("host=127.0.0.1 port=1 connect_timeout=2")) . pg_escape_string("it's"),
    "pspell" => fn() => gettype(@pspell_new("en")),
    "readline" => fn() => function_exists("readline_info") ? "has a history" : "",
    "shmop" => fn() => gettype(@shmop_open(1, "a", 0, 0)),
    "snmp" => fn() => gettype(@(new SNMP(SNMP::VERSION_2C, "127.0.0.1:1", "public", 1000, 0))->get("1.3.6.1.2.1.1.1.0")),
    "soap" => function () {
        $server = new SoapServer(null, ["uri" => "urn:test"]);
        $server->addFunction("strtoupper");
        ob_start();
        $server->handle('<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><n:strtoupper xmlns:n="urn:test">'
            . '<a>text</a></n:strtoupper></e:Body></e:Envelope>');
        return md5(ob_get_clean());
    },
    "sockets" => fn() => count(socket_create_pair(AF_UNIX, SOCK_STREAM, 0, $pair) ? $pair : []),
    "sodium" => fn() => bin2hex(sodium_crypto_generichash(str_repeat("x", 5000))),
    "sqlite3" => function () {
        $base = new SQLite3(":memory:");
        $base->exec("create table t (n integer, w text)");
        $base->createFunction("double", fn($n) => 2 * $n);
        for ($i = 0; $i < 1000; $i++) $base->exec("insert into t values ($i, '" . md5($i) . "')");
        return md5($base->querySingle("select sum(double(n)) || group_concat(substr(w, 1, 2), '') from t"));
    },
    "tidy" => fn() => md5(tidy_repair_string(str_repeat("<p>text<b>more", 500))),
    "xmlwriter" => function () {
        $writer = new XMLWriter();
        $writer->openMemory();
        for ($i = 0; $i < 1000; $i++) $writer->writeElement("n", "$i");
        return md5($writer->outputMemory());
    },
    "xsl" => function () {
        $style = new DOMDocument();
        $style->loadXML('<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/">'
            . '<o><xsl:for-each select="//i"><xsl:sort select="@k" order="descending"/><n><xsl:value-of select="."/></n></xsl:for-each></o>'
            . '</xsl:template></xsl:stylesheet>');
        $source = new DOMDocument();
        $source->loadXML("<r>" . implode("", array_map(fn($i) => "<i k='" . md5($i) . "'>$i</i>", range(1, 500))) . "</r>");
        $processor = new XSLTProcessor();
        $processor->importStylesheet($style);
        return md5($processor->transformToXML($source));
    },
    "zip" => function () {
        $path = sys_get_temp_dir() . "/work.zip";
        @unlink($path);
        $zip = new ZipArchive();
        $zip->open($path, ZipArchive::CREATE);
        for ($i = 0; $i < 50; $i++) $zip->addFromString("file$i", str_repeat("line $i\n", $i * 50));
        $zip->close();
        $zip->open($path);
        return $zip->numFiles . md5($zip->getFromName("file49"));
    },
];
foreach ($uses as $name => $use)
    if (extension_loaded($name)) echo $name, ": ", $use(), "\n";
echo "all used\n";
