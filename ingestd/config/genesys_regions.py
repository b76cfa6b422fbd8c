"""The regions of Genesys Cloud and their hosts. Called by the configuration."""

from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.text import did_you_mean

# Source: the region lists of the SDKs (Python 269.0.0, JavaScript 262.0.0), read on 2026-11-28: 18 in both.
DOMAINS = {
    "us-east-1": "mypurecloud.com",
    "us-east-2": "use2.us-gov-pure.cloud",  # FedRAMP
    "us-west-2": "usw2.pure.cloud",
    "ca-central-1": "cac1.pure.cloud",
    "sa-east-1": "sae1.pure.cloud",
    "mx-central-1": "mxc1.pure.cloud",
    "eu-west-1": "mypurecloud.ie",
    "eu-west-2": "euw2.pure.cloud",
    "eu-central-1": "mypurecloud.de",
    "eu-central-2": "euc2.pure.cloud",
    "ap-northeast-1": "mypurecloud.jp",
    "ap-northeast-2": "apne2.pure.cloud",
    "ap-northeast-3": "apne3.pure.cloud",
    "ap-south-1": "aps1.pure.cloud",
    "ap-southeast-1": "apse1.pure.cloud",
    "ap-southeast-2": "mypurecloud.com.au",
    "me-central-1": "mec1.pure.cloud",
    "eusc-de-east-1": "edee1.eusc-pure.cloud",  # sovereign
}

_MAX_SHOWN = 60


class Hosts(NamedTuple):
    """Where one region is: ``https://api.DOMAIN`` and ``https://login.DOMAIN/oauth/token``."""

    api_base: str
    token_url: str


def hosts(region_or_domain: str) -> Hosts:
    """The hosts of ``eu-central-1``, ``mypurecloud.de`` or ``https://api.mypurecloud.de/``.

    Raises UserError, with the closest name we know, for anything else.
    """
    name = region_or_domain[:500].strip().lower().removeprefix("https://").rstrip("/.")
    name = name.removeprefix("api.").removeprefix("login.")
    domain = DOMAINS.get(name, name)
    if domain not in DOMAINS.values():
        close = did_you_mean(name, [*DOMAINS, *DOMAINS.values()])
        hint = f"did you mean {close}?" if close else "expected an AWS region such as us-east-1"
        raise UserError(f"{name[:_MAX_SHOWN]!r} is not a Genesys Cloud region or domain: {hint}")
    return Hosts(f"https://api.{domain}", f"https://login.{domain}/oauth/token")


def region_of(url: str) -> str:
    """``eu-central-1`` for ``https://login.mypurecloud.de/oauth/token``; empty for other hosts."""
    from urllib.parse import urlsplit

    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return next((name for name, domain in DOMAINS.items() if f".{host}".endswith(f".{domain}")), "")


def token_url_for(api_base: str) -> str | None:
    """``https://api.X`` -> ``https://login.X/oauth/token``, as the official SDK derives it; else None."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(api_base)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.netloc.startswith("api."):
        return None
    return f"{parts.scheme}://login.{parts.netloc.removeprefix('api.')}/oauth/token"
