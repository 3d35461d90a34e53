"""Opens the user's browser on the studio, where there is one to open."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from contract.errors import LorakeetError
from orchestrator.files.durable import replace

FILE: Final = "open-studio.html"

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Lorakeet</title>
<meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url={url}"></head>
<body><p><a href="{url}">Open the studio</a></p></body></html>
"""


def has_browser(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether whoever started us sits before a browser of this machine."""
    if any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY")):
        return False
    if platform in ("win32", "darwin"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_browser(home: Path, url: str) -> bool:
    """Show `url`; whether something tried to. May take seconds, so it is not for the loop."""
    import webbrowser
    from html import escape

    page = home / FILE
    try:
        # The address of a login link must not stand in the list of processes, where every user could read it.
        replace(page, _PAGE.format(url=escape(url)).encode(), mode=0o600)
    except LorakeetError:
        return False
    return webbrowser.open(page.as_uri())


@contextmanager
def tidied(home: Path) -> Iterator[None]:
    """Remove what `open_browser` has left, when the block ends."""
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(home / FILE)
