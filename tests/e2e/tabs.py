"""What somebody has in a browser: a profile with its cookies, and tabs."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.e2e.chromium import Browser, BrowserFailed, Message


class Profile:
    """What one user of the browser has: cookies and tabs, and nothing of another's. Made by `used`."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.id: str = browser.call("Target.createBrowserContext")["browserContextId"]
        self._tabs: list[Page] = []

    def cookies(self) -> list[Message]:
        """Every cookie."""
        found: list[Message] = self._browser.call("Storage.getCookies", browserContextId=self.id)["cookies"]
        return found

    def tab(self) -> "Page":
        """A new tab."""
        self._tabs.append(Page(self._browser, self.id))
        return self._tabs[-1]

    def framed(self) -> list[str]:
        """What is shown in frames, wherever they are: a frame that was refused shows an error page."""
        shown = [url for page in self._tabs for url in page.addresses()[1:]]
        for target in self._targets("iframe"):
            attached = self._browser.call("Target.attachToTarget", targetId=target, flatten=True)
            tree = self._browser.call("Page.getFrameTree", attached["sessionId"])["frameTree"]
            shown += _addresses(tree)
        return shown

    def close_windows(self) -> None:
        """Close what pages have opened."""
        for target in set(self._targets("page")) - {page.id for page in self._tabs}:
            self._browser.call("Target.closeTarget", targetId=target)

    def _targets(self, kind: str) -> list[str]:
        found = self._browser.call("Target.getTargets")["targetInfos"]
        own = [each for each in found if each.get("browserContextId") == self.id]
        return [each["targetId"] for each in own if each["type"] == kind]

    def close(self) -> None:
        """Close every tab, and forget the cookies."""
        self._browser.call("Target.disposeBrowserContext", browserContextId=self.id)


@contextmanager
def used(browser: Browser) -> Iterator[Profile]:
    """A fresh profile for as long as the block lasts."""
    profile = Profile(browser)
    try:
        yield profile
    finally:
        profile.close()


class Page:
    """A tab."""

    def __init__(self, browser: Browser, profile: str) -> None:
        self._browser = browser
        made = browser.call("Target.createTarget", url="about:blank", browserContextId=profile)
        self.id: str = made["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self.id, flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, /, **params: Any) -> Message:
        """`method` of the DevTools protocol for this tab. Raises BrowserFailed."""
        return self._browser.call(method, self._session, **params)

    def go(self, url: str) -> str | None:
        """Open an address and wait until it has loaded; why it could not be opened, or None."""
        self._take("Page.loadEventFired")
        failure: str | None = self.call("Page.navigate", url=url).get("errorText")
        if failure is None:
            self.wait("Page.loadEventFired")
        return failure

    def submit(self, script: str) -> None:
        """Run a script that leads elsewhere, and wait until that has loaded. Raises BrowserFailed."""
        self._take("Page.loadEventFired")
        self.evaluate(script)
        self.wait("Page.loadEventFired")

    def show(self, url: str, html: str) -> None:
        """Open an address as if `html` had come from there, whoever answers to it from now on."""
        self.call("Fetch.enable", patterns=[{"urlPattern": url}])
        self._take("Page.loadEventFired")
        self._browser.send("Page.navigate", self._session, url=url)
        paused = self.wait("Fetch.requestPaused")
        body = base64.b64encode(html.encode()).decode()
        headers = [{"name": "content-type", "value": "text/html"}]
        self.call(
            "Fetch.fulfillRequest",
            requestId=paused["requestId"],
            responseCode=200,
            responseHeaders=headers,
            body=body,
        )
        self.wait("Page.loadEventFired")
        self.call("Fetch.disable")

    def wait(self, event: str) -> Message:
        """The parameters of the next event of this name. Raises BrowserFailed."""
        return self._browser.wait_told(event, self._session)

    def evaluate(self, script: str) -> Any:
        """What an expression comes to, a promise awaited. Raises BrowserFailed."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserFailed(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def addresses(self) -> list[str]:
        """Of the page and of all frames in it, as they are shown: an error page where one was refused."""
        return list(_addresses(self.call("Page.getFrameTree")["frameTree"]))

    def complaints(self) -> list[str]:
        """What the browser has refused in this tab for a policy of the page, since it was asked last."""
        entries = [each["params"]["entry"] for each in self._take("Log.entryAdded")]
        return [entry["text"] for entry in entries if "Content Security Policy" in entry["text"]]

    def dialogs(self) -> list[str]:
        """What scripts of the page have shown by `alert` and its like."""
        return [each["params"]["message"] for each in self._take("Page.javascriptDialogOpening")]

    def _take(self, event: str) -> list[Message]:
        def is_it(message: Message) -> bool:
            return (message.get("method"), message.get("sessionId")) == (event, self._session)

        # An answer comes after all that was told before it.
        self.call("Runtime.evaluate", expression="0")
        found = [each for each in self._browser.told if is_it(each)]
        self._browser.told = [each for each in self._browser.told if not is_it(each)]
        return found


def _addresses(tree: Message) -> Iterator[str]:
    frame = tree["frame"]
    yield frame.get("unreachableUrl") and "chrome-error:" or frame["url"]
    for each in tree.get("childFrames", ()):
        yield from _addresses(each)
