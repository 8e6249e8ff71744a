"""A headless Chromium for the tests, spoken to through its debugging pipe: no driver and no package is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from braintransfer.book.pdf import BROWSERS


def find_chromium() -> str:
    """The browser's program; skips the test where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a Chromium on the PATH, under one of the names {', '.join(BROWSERS)}")
    return found


class Chromium:
    """A browser that reaches no network. `requests` and `problems` collect what its pages asked for and complained about."""

    def __init__(self, folder: Path) -> None:
        read_from, browser_writes = os.pipe()
        browser_reads, self._write_to = os.pipe()
        options = [
            find_chromium(), "--headless", "--no-sandbox", "--disable-background-networking", "--no-first-run",
            "--disable-extensions", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader", "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}", "--remote-debugging-pipe",
        ]  # fmt: skip
        # the browser reads commands from file 3 and answers on file 4
        moved = (
            "import fcntl, os, sys; a, b = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]);"
            "os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", moved, str(browser_reads), str(browser_writes), *options],
            pass_fds=(browser_reads, browser_writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        self._read_from, self._rest, self._ids = read_from, b"", itertools.count(1)
        self._session = ""
        self.requests: list[str] = []
        self.problems: list[str] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._process.terminate()
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read_from)
        os.close(self._write_to)

    def _message(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read_from], [], [], max(until - time.monotonic(), 0))[0]:
                raise TimeoutError("Chromium did not answer in time")
            more = os.read(self._read_from, 1 << 20)
            if not more:
                raise RuntimeError("Chromium ended")
            self._rest += more
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        told = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "assert"):
                self.problems.append(" ".join(str(a.get("value", a.get("description"))) for a in told["args"]))

    def ask(self, method: str, timeout: float = 120.0, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + timeout
        while True:
            answer = self._message(until)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def open(self, page: Path, width: int = 1280, *, dark: bool = False, height: int = 900) -> None:
        """A page from disk in a fresh tab of this width (below 500: a phone), when it has loaded."""
        if self._session:
            self.ask("Page.close")
            self._session = ""
        tab = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page; a promise is awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(f"{script}: {details.get('exception', {}).get('description', details['text'])}")
        return answer["result"].get("value")

    def wait(self, condition: str, timeout: float = 120.0) -> None:
        """Until a JavaScript expression is true; TimeoutError otherwise."""
        until = time.monotonic() + timeout
        while not self.run(condition):
            if time.monotonic() > until:
                raise TimeoutError(f"never true on the page: {condition}")
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key, pressed where the focus is."""
        codes = {
            "ArrowRight": 39,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowDown": 40,
            "PageUp": 33,
            "PageDown": 34,
            "Tab": 9,
            " ": 32,
        }
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """A PNG of the page, all of it or what the window shows."""
        data = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))
