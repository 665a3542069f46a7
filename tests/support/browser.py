"""A real Chromium without a window, driven over WebDriver's protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the network is cut
)  # fmt: skip
SECONDS = 60

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromium-driver are not installed"
)


class Browser:
    """A session of the driver at this address."""

    def __init__(self, address: str) -> None:
        self._address = address
        options = {"args": ARGUMENTS, "binary": CHROMIUM}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._address += f"/session/{session['sessionId']}"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as problem:
            raise AssertionError(json.load(problem)["value"]["message"]) from None

    def open(self, url: str) -> None:
        # From another page, so that one that differs behind # alone is loaded anew.
        self._ask("POST", "/url", {"url": "about:blank"})
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *values: Any) -> Any:
        """The value that a script returns; it may be a promise."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": values})

    def wait(self, script: str) -> Any:
        """The value of an expression, once it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(f"return {script}")):
            assert time.monotonic() < end, f"{script} did not come"
            time.sleep(0.02)
        return value

    def click(self, selector: str) -> None:
        """Click where an element is, as a user does."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{next(iter(found.values()))}/click", {})

    def press(self, selector: str, keys: str) -> None:
        """Type into an element."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{next(iter(found.values()))}/value", {"text": keys})

    def command(self, name: str, **values: Any) -> Any:
        """A command of the developer tools."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": values})

    def messages(self) -> list[str]:
        """What the console has shown since the last call."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def picture(self, path: Path) -> None:
        """Write a picture of what is in view."""
        path.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def close(self) -> None:
        self._ask("DELETE", "")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser, with its driver on a free port."""
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert driver.stdout is not None
        for line in driver.stdout:
            if b"started successfully on port" in line:
                port = int(line.rsplit(maxsplit=1)[1].rstrip(b"."))
                break
        else:
            raise AssertionError("chromedriver did not start")
        found = Browser(f"http://127.0.0.1:{port}")
        try:
            yield found
        finally:
            found.close()
    finally:
        driver.terminate()
        driver.wait(10)
        driver.stdout.close()
