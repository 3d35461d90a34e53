"""The studio's own few pages for people: no script, and nothing from a network."""

from typing import Final

from starlette.responses import Response

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="stylesheet" href="/plain.css">
<title>{title}</title>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def escape(words: str) -> str:
    """`words` as they stand in HTML. Not that of `html`, which loads a table of every character's name."""
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        words = words.replace(character, name)
    return words


def page(title: str, *parts: str, status: int = 200) -> Response:
    """A page of `parts`, which are HTML already."""
    body = _PAGE.format(title=escape(title), body="\n".join(parts))
    return Response(body, status_code=status, media_type="text/html; charset=utf-8")


def text(words: str) -> str:
    """A paragraph of plain words."""
    return f"<p>{escape(words)}</p>"


#: Where somebody who has the token, and no link, logs in.
TOKEN_FORM: Final = """<form method="post" action="/login">
<p><label>Token <input name="token" type="password" autocomplete="current-password" required></label>
<button>Log in</button></p>
</form>"""

NEW_LINK: Final = """<p>A link logs in one browser, once, within ten minutes. A new one comes from this
command, on the machine on which the studio runs:</p>
<pre>lorakeet link</pre>
<p>In a clone of Lorakeet it is <code>python3 start.py link</code>. Or log in with the token, which the studio
showed at its very first start:</p>"""

INDEX: Final = """<p>The studio runs. Its web pages are not part of this version yet; everything it does is
there over HTTP, and <a href="/api/v1/docs">the API's own page</a> says what that is. With curl:</p>
<pre>curl -H "Authorization: Bearer $TOKEN" {address}/api/v1/jobs
curl -H "Authorization: Bearer $TOKEN" -N "{address}/api/v1/events"</pre>"""
