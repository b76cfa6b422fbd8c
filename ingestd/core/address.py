"""Addresses to listen on and to send to, as people write them. Used by configuration and servers."""

import re

from ingestd.core.regex import regex

_LISTEN = regex(r"(?:\[([^\[\]\s]+)\]|([^\[\]:\s\x00-\x1f]+)):(\d{1,5})", re.ASCII)
_USERINFO = regex(r"(?<=://)[^/?#\s]*@")


def parse_listen(text: str) -> tuple[str, int]:
    """``"127.0.0.1:8080"`` -> ("127.0.0.1", 8080); ``"[::1]:8080"`` -> ("::1", 8080). Raises ValueError."""
    match = _LISTEN.fullmatch(text.strip())
    if not match or int(match[3]) > 65535 or (match[1] and not _is_ipv6(match[1])):
        raise ValueError(f"{text[:100]!r} is not an address: write it like 127.0.0.1:8080 or [::1]:8080")
    return match[1] or match[2], int(match[3])


def write_listen(host: str, port: int) -> str:
    """The inverse of ``parse_listen``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name other than localhost counts as reachable by others."""
    if host.lower() == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two listeners would want the same port; port 0 is any free one."""
    (host, port), (other_host, other_port) = one, other
    if port != other_port or port == 0:
        return False
    return host == other_host or bool({host, other_host} & {"0.0.0.0", "::"})  # noqa: S104 - compared only


def is_exposed(url: str) -> bool:
    """Plain HTTP to another machine: what is sent there can be read on the way."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def check_url(url: str) -> None:
    """Whether a request can be sent there at all. Raises ValueError, which does not quote it: it may be a
    secret."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"not a valid URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("it must begin with https:// (or http://) and a host")
    if not url.isprintable() or " " in url:
        raise ValueError("it has blanks or control characters in it")


def show_url(url: str) -> str:
    """``url`` for people: user-info and query masked."""
    where = url.partition("?")[0].partition("#")[0]
    return without_password(where) + ("" if where == url else "?***")


def show_host(url: str) -> str:
    """Of a URL that is a secret: where it goes, and no more."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/***"


def without_password(text: str) -> str:
    """``text`` with user and password of every URL in it masked."""
    return _USERINFO.sub("***@", text) if "@" in text else text


def _is_ipv6(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
