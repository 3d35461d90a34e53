"""The cookie of a session. Its name has the port in it: cookies ignore ports, and two studios on one machine
would log each other's browsers out."""

from collections.abc import Iterable
from typing import Final

#: The longest that browsers keep a cookie. How long the session lasts, the studio decides by itself.
_MAX_AGE_S: Final = 400 * 24 * 3_600
#: Another page of the same machine may set cookies of our name; a flood of them is not compared with.
_MAX_SENT: Final = 4


def cookie_name(port: int) -> str:
    """Such as `lorakeet_8000`."""
    return f"lorakeet_{port}"


def set_cookie(port: int, secret: str, *, is_https: bool) -> str:
    """The Set-Cookie header that begins a session in a browser."""
    return _header(port, secret, _MAX_AGE_S, is_https)


def clear_cookie(port: int, *, is_https: bool) -> str:
    """The Set-Cookie header that ends it."""
    return _header(port, "", 0, is_https)


def sent_secrets(headers: Iterable[str], port: int) -> list[str]:
    """The secrets in Cookie headers, at most four."""
    name = cookie_name(port)
    pairs = (each.strip().partition("=") for header in headers for each in header.split(";"))
    return [value for key, _, value in pairs if key == name][:_MAX_SENT]


def _header(port: int, value: str, max_age_s: int, is_https: bool) -> str:
    # Without Domain, so that the browser sends it to this very name.
    cookie = f"{cookie_name(port)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict"
    return f"{cookie}; Secure" if is_https else cookie
