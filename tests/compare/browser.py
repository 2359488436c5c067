"""A headless Chromium for tests of pages. It is gone when the test is, whatever happened in between."""

import json
import os
import shutil
import signal
import tempfile
import time

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
PATIENCE = 60           # seconds; a loaded machine starts a browser in twenty
SWITCHES = ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars")


def processes_of(profile):
    """The browser's processes: they all name the profile's folder on their command line."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if os.fsencode(profile) in file.read():
                    yield int(pid)
        except OSError:
            continue


class Browser:
    def __init__(self):
        for path, package in ((CHROMIUM, "chromium"), (DRIVER, "chromium-driver")):
            if not os.path.exists(path):
                raise AssertionError(f"{path} is missing: this test needs the Debian package {package}")
        try:
            from selenium import webdriver      # pylint: disable=import-outside-toplevel
            from selenium.webdriver.chrome.service import Service   # pylint: disable=import-outside-toplevel
        except ImportError as error:
            raise AssertionError("this test needs the Debian package python3-selenium, and Debian's python3") from error
        self.folder = tempfile.mkdtemp(prefix="arenal-browser-")
        self.driver = None
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for switch in (*SWITCHES, f"--user-data-dir={self.folder}/profile"):
            options.add_argument(switch)
        if os.getuid() == 0:
            options.add_argument("--no-sandbox")    # Chromium refuses to start as root with one
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # Not the user's home: crash reports and settings belong to the profile.
        service = Service(DRIVER, env={**os.environ, "HOME": self.folder, "XDG_CONFIG_HOME": self.folder})
        try:
            self.driver = webdriver.Chrome(service=service, options=options)
            self.driver.set_page_load_timeout(PATIENCE)
            self.driver.set_script_timeout(PATIENCE)
        except BaseException:
            service.stop()
            self.close()
            raise

    def close(self):
        try:
            if self.driver:
                self.driver.quit()
        finally:
            for pid in processes_of(self.folder):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script, what):
        deadline = time.monotonic() + PATIENCE
        while not self.run(script):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {PATIENCE} s for {what}")
            time.sleep(0.1)

    def screen(self, width, height, dark=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
        self.scheme(dark)

    def scheme(self, dark):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})

    def open(self, path):
        self.messages()
        self.driver.get("file://" + path)

    def messages(self):
        """What the page complained about since the last call."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self):
        """The addresses that pages from files asked for since the last call; not what the browser's own pages did."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent if one["documentURL"].startswith("file:")]
