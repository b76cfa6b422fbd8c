"""What an answer's headers say of the rate that the API allows. Called by the lane for every answer.

Three families, the first that makes sense counts: Genesys Cloud's ``inin-ratelimit-*``, the IETF draft's
``RateLimit`` with ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-10), and its older form with
three headers. What is malformed is ignored, as that draft demands.
"""

import re
from collections.abc import Mapping

import msgspec

from ingestd.core.regex import regex

CAP_S = 900.0
"""No answer makes us wait longer than 15 minutes, whatever it says."""

_EPOCH_S = 10**9
"""A reset this far off is a date in a header that has seconds: it says nothing we could use."""
_MAX_LENGTH = 500
_MAX_POLICIES = 10
_ITEM = regex(
    r'[ \t]*("(?:[^"\\]|\\.){0,100}"|[A-Za-z*][\w*.:/-]{0,100})'
    r'((?:[ \t]*;[ \t]*[a-z*][a-z0-9_.*-]*(?:=(?:"(?:[^"\\]|\\.)*"|[^;,"\s]+))?)*)[ \t]*(,|$)',
    re.ASCII,
)
_PARAMETER = regex(r';[ \t]*([a-z*][a-z0-9_.*-]*)=("(?:[^"\\]|\\.)*"|[^;,"\s]+)', re.ASCII)


class Allowance(msgspec.Struct, frozen=True):
    """``remaining`` requests in the next ``reset_s`` seconds, at most 900; then there may be ``limit``
    again (None: not said)."""

    remaining: int
    reset_s: float
    limit: int | None = None


def parse(headers: Mapping[str, str]) -> Allowance | None:
    """``headers`` have lower-case names. None where they say nothing, or nothing that makes sense."""
    if "inin-ratelimit-reset" in headers and (found := _genesys(headers)):
        return found
    if "ratelimit" in headers and (found := _draft(headers)):
        return found
    if "ratelimit-remaining" in headers:
        return _allowance(
            _number(headers["ratelimit-remaining"]),
            _number(headers.get("ratelimit-reset")),
            _number(headers.get("ratelimit-limit", "").split(",")[0].split(";")[0]),
        )
    return None


def _genesys(headers: Mapping[str, str]) -> Allowance | None:
    """Requests counted, requests allowed, and seconds until the count starts again."""
    count, allowed = (
        _number(headers.get("inin-ratelimit-count")),
        _number(headers.get("inin-ratelimit-allowed")),
    )
    if count is None or not allowed:
        return None
    return _allowance(max(0, allowed - count), _number(headers["inin-ratelimit-reset"]), allowed)


def _draft(headers: Mapping[str, str]) -> Allowance | None:
    """Of several limits the one that binds first."""
    policies = _items(headers.get("ratelimit-policy", ""))
    found: list[Allowance] = []
    for name, parameters in _items(headers["ratelimit"]).items():
        policy = policies.get(name, {})
        window = parameters.get("t", policy.get("w"))
        allowance = _allowance(_number(parameters.get("r")), _number(window), _number(policy.get("q")))
        if allowance:
            found.append(allowance)
    return min(found, key=lambda one: one.remaining / (one.reset_s or 0.001), default=None)


def _items(value: str) -> dict[str, dict[str, str]]:
    """A list of named items with parameters (RFC 9651); empty if it is not one."""
    if len(value) > _MAX_LENGTH:
        return {}
    items: dict[str, dict[str, str]] = {}
    at = 0
    while at < len(value):
        match = _ITEM.match(value, at)
        if match is None or len(items) == _MAX_POLICIES:
            return {}
        items[match[1].strip('"')] = dict(_PARAMETER.findall(match[2]))
        at = match.end()
    return items


def _allowance(remaining: int | None, reset_s: int | None, limit: int | None) -> Allowance | None:
    if remaining is None or reset_s is None or reset_s >= _EPOCH_S:
        return None
    return Allowance(remaining, min(float(reset_s), CAP_S), limit or None)


def _number(value: str | None) -> int | None:
    """ASCII digits only: ``int`` would take ``-1``, ``+5`` and ``1_000``."""
    if value is None or len(value) > 15:
        return None
    value = value.strip(" \t")
    return int(value) if value.isascii() and value.isdigit() else None
