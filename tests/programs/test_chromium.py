"""chromium: headless, many processes in its own sandbox, which paints a page that allocates in all of them."""

import http.server
import os
import threading

from processes import descendants
from support import ProgramTest, main

PAGE = """<!doctype html><title>page</title><style>li { color: #123; transform: rotate(1deg) }</style><ul id=list></ul>
<canvas id=c width=200 height=100></canvas><script>
const words = [];
for (let i = 0; i < 3000; i++) words.push({ n: i, text: 'x'.repeat(i % 200), list: Array.from({ length: i % 9 }, (_, k) => k * i) });
for (let i = 0; i < 1500; i++) { const li = document.createElement('li'); li.textContent = 'item ' + i; list.append(li); }
for (const li of [...document.querySelectorAll('li')]) if (li.textContent.length % 2) li.remove();
const g = c.getContext('2d');
for (let i = 0; i < 200; i++) { g.fillStyle = `hsl(${i},90%,50%)`; g.fillRect(i, i / 2, 40, 30); }
const worker = new Worker(URL.createObjectURL(new Blob(["onmessage = e => postMessage(e.data.map(x => x * 2).reduce((a, b) => a + b))"])));
worker.onmessage = async e => {
  const bytes = new TextEncoder().encode(JSON.stringify(words));
  const packed = await new Response(new Blob([bytes]).stream().pipeThrough(new CompressionStream('gzip'))).arrayBuffer();
  const back = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))).text();
  const pixels = g.getImageData(0, 0, 200, 100).data.reduce((a, b) => (a * 31 + b) % 1000003);
  fetch('/told', { method: 'POST', body: ['done', e.data, back.length, JSON.parse(back).length, list.children.length,
    list.offsetHeight > 1000, pixels].join(' ') });
};
worker.postMessage(new Float64Array(100000).fill(3));
</script>"""


class Chromium(ProgramTest):
    needs = ("chromium",)
    user = "nobody"             # as root it has no sandbox

    def work(self, run):
        told = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):                   # pylint: disable=invalid-name
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(PAGE.encode() if self.path == "/" else b"")

            def do_POST(self):                  # pylint: disable=invalid-name
                told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):          # pylint: disable=arguments-differ
                pass
        page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=page.serve_forever, daemon=True).start()
        self.addCleanup(page.server_close)
        self.addCleanup(page.shutdown)
        run.make("profile")
        for turn in range(2):
            browser = run.server(lambda _: [
                "chromium", "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-dev-shm-usage",
                "--disable-background-networking", "--disable-component-update", f"--user-data-dir={run.path('profile')}",
                f"http://127.0.0.1:{page.server_port}/"], lambda _, turn=turn: len(told) > turn)
            renderers = [pid for pid in descendants(browser.pid) if "--type=renderer" in command_line(pid)]
            self.assertGreater(len(renderers), 0)
            self.assertFalse([pid for pid in renderers if "--no-sandbox" in command_line(pid)])
            if os.getuid() == 0:                # others must not look into a sandbox
                run.assert_on_arenal(*renderers)
            run.measure(browser)
            run.stop(browser, None)
        return "\n".join(told)


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read().replace("\0", " ")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
