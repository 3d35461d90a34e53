"""A real browser without a window, driven through its debugging pipe. Every wait has an end."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

#: Seconds that anything in the browser may take.
PATIENCE_S: Final = 20.0
_NAMES: Final = ("chromium", "chromium-browser")
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # What a page may do without being clicked must not depend on the moment.
    "--disable-popup-blocking",
    "--autoplay-policy=no-user-gesture-required",
    # Other browsers let pages of strangers knock at this machine; the studio must not need this one's help.
    "--disable-features=LocalNetworkAccessChecks",
    # A name that was rebound looks like this; and nothing here reaches beyond this machine.
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
#: The browser reads descriptor 3 and writes 4, whatever their numbers are here.
_EXEC: Final = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)

Message = dict[str, Any]


class BrowserFailed(Exception):
    """Raised when the browser refuses, ends, or does not answer in time."""


def find_chromium() -> str | None:
    """Where it is; None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser that knows loopback's names alone, and finds there whatever ends with `.test`."""

    def __init__(self, command: str, folder: Path) -> None:
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-ISc", _EXEC, str(to_browser), str(from_browser)),
                *(command, *_FLAGS, f"--user-data-dir={folder}", "about:blank"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_browser, from_browser),
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number = 0
        self._arrived: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        #: What it has told by itself and nobody has taken yet.
        self.told: list[Message] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, method: str, session: str | None = None, /, **params: Any) -> Message:
        """What `method` of the DevTools protocol answers. Raises BrowserFailed."""
        self.send(method, session, **params)
        deadline = time.monotonic() + PATIENCE_S
        while (message := self._next(deadline)).get("id") != self._number:
            self.told.append(message)
        if "error" in message:
            raise BrowserFailed(f"{method}: {message['error']['message']}")
        result: Message = message["result"]
        return result

    def send(self, method: str, session: str | None, /, **params: Any) -> None:
        """Ask for something and do not wait until it is done."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        os.write(self._to, json.dumps(asked | ({"sessionId": session} if session else {})).encode() + b"\0")

    def wait_told(self, method: str, session: str) -> Message:
        """The parameters of the next event of this name, taken away. Raises BrowserFailed."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for place, message in enumerate(self.told):
                if (message.get("method"), message.get("sessionId")) == (method, session):
                    params: Message = self.told.pop(place)["params"]
                    return params
            self.told.append(self._next(deadline))

    def close(self) -> None:
        """End it, and wait until it has ended."""
        with suppress(BrowserFailed, OSError):
            self.call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE_S)
        os.close(self._to)
        os.close(self._from)

    def _next(self, deadline: float) -> Message:
        try:
            message = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise BrowserFailed("the browser did not answer in time") from None
        if message is None:
            raise BrowserFailed("the browser has ended")
        return message

    def _read(self) -> None:
        kept = b""
        with suppress(OSError):
            while chunk := os.read(self._from, 1 << 16):
                *whole, kept = (kept + chunk).split(b"\0")
                for each in whole:
                    self._arrived.put(json.loads(each))
        self._arrived.put(None)
