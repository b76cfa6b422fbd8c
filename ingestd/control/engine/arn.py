"""Amazon Resource Names, taken apart and checked part by part. Pure; called by the kinds that hold one.

Sources: the AWS General Reference, "ARNs", and the API models of EventBridge, IAM and Lambda in botocore.
Partitions and regions are checked for their form only: new ones appear. Lambda has a form of its
own for regions, which is narrower: what it refuses would fail at the API, so it is refused here.
"""

import re
from typing import NamedTuple

from ingestd.core.errors import UserError

MAX_ARN_CHARACTERS = 1600
PARTNER_PREFIX = "aws.partner/"

_PARTITION = re.compile(r"aws(-[a-z]{1,20}){0,3}")
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]{1,20}){1,3}-[1-9][0-9]?")
_LAMBDA_REGION = re.compile(r"(eusc-)?[a-z]{2}(-gov|-iso[a-z]?)?-[a-z]{1,20}-[1-9]")
_ACCOUNT = re.compile(r"[0-9]{12}")
_BUS = re.compile(r"[/._A-Za-z0-9-]{1,256}")
_PARTNER = re.compile(r"aws\.partner(/[._A-Za-z0-9-]+){2,}")
_TOPIC = re.compile(r"[._A-Za-z0-9-]{1,256}")
_ROLE = re.compile(r"[A-Za-z0-9_+=,.@/-]{0,511}/(?P<name>[A-Za-z0-9_+=,.@-]{1,64})")
_FUNCTION = re.compile(r"(?P<name>[A-Za-z0-9_-]{1,140})(:(\$LATEST(\.PUBLISHED)?|[A-Za-z0-9_-]{1,128}))?")


class Arn(NamedTuple):
    """``name``: what follows the type in the resource, whole: of a bus it may hold slashes, of a function its
    qualifier, of a role its path."""

    partition: str
    service: str
    region: str
    account: str
    type: str
    name: str

    @property
    def is_partner(self) -> bool:
        """Whether it is of a partner of AWS: ``aws.partner/genesys.com/cloud/ORG/SUFFIX``."""
        return self.name.startswith(PARTNER_PREFIX)


def parse_bus_arn(text: object, *, where: str, partner: bool = False) -> Arn:
    """``…:events:REGION:ACCOUNT:event-bus/NAME``; ``partner``: only one that a partner event source feeds.

    Raises UserError, as all of these do: ``where``, which part, and what was expected there.
    """
    arn = _parse(text, where, service="events", types=("event-bus",))
    _check_name(arn, _BUS, where, "a bus's name has 1 to 256 letters, digits and . _ - /")
    if arn.is_partner:
        _check_name(
            arn, _PARTNER, where, "a partner's bus is called aws.partner/PARTNER/NAME, with no empty part"
        )
    elif partner:
        raise _wrong(where, "name", arn.name, "expected the bus of a partner event source, aws.partner/…")
    return arn


def parse_topic_arn(text: object, *, where: str) -> Arn:
    """Where a subscription's events come from: ``topic/NAME``, or the bus itself."""
    arn = _parse(text, where, service="events", types=("topic", "event-bus"))
    if arn.type == "event-bus":
        return parse_bus_arn(text, where=where)
    _check_name(arn, _TOPIC, where, "a topic's name has 1 to 256 letters, digits and . _ -")
    return arn


def parse_role_arn(text: object, *, where: str) -> Arn:
    """``arn:…:iam::ACCOUNT:role/PATH/NAME``: it has no region. Raises UserError."""
    arn = _parse(text, where, service="iam", types=("role",), region=False)
    if not _ROLE.fullmatch(f"/{arn.name}"):
        expected = (
            "a role's name has 1 to 64 letters, digits and _ + = , . @ -, after its path, if it has one"
        )
        raise _wrong(where, "name", arn.name, expected)
    return arn


def parse_function_arn(text: object, *, where: str) -> Arn:
    """``…:lambda:REGION:ACCOUNT:function:NAME``, with ``:VERSION``, ``:ALIAS`` or ``:$LATEST`` or without."""
    arn = _parse(text, where, service="lambda", types=("function",))
    _check_name(arn, _FUNCTION, where, "expected NAME or NAME:QUALIFIER, of letters, digits and _ -")
    return arn


def source_of(bus: Arn) -> str:
    """The ARN of the event source that feeds a partner's bus: they have one name."""
    return f"arn:{bus.partition}:events:{bus.region}::event-source/{bus.name}"


def _parse(
    text: object,
    where: str,
    *,
    service: str,
    types: tuple[str, ...],
    region: bool = True,
    account: bool = True,
) -> Arn:
    parts = _split(text, where)
    separator = ":" if service == "lambda" else "/"
    kind, found, name = parts[5].partition(separator)
    arn = Arn(parts[1], parts[2], parts[3], parts[4], kind, name)
    if not _PARTITION.fullmatch(arn.partition):
        raise _wrong(where, "partition", arn.partition, "expected aws, aws-us-gov, aws-cn, aws-eusc …")
    if arn.service != service:
        raise _wrong(where, "service", arn.service, f"expected {service}")
    if not region and arn.region:
        raise _wrong(where, "region", arn.region, f"of {service} it is empty")
    if region and not (_LAMBDA_REGION if service == "lambda" else _REGION).fullmatch(arn.region):
        raise _wrong(where, "region", arn.region, "expected one like us-east-1")
    if not account and arn.account:
        raise _wrong(where, "account", arn.account, f"of an {types[0]} it is empty")
    if account and not _ACCOUNT.fullmatch(arn.account):
        raise _wrong(where, "account", arn.account, "expected 12 digits")
    if kind not in types or not found:
        expected = " or ".join(f"{one}{separator}NAME" for one in types)
        raise _wrong(where, "resource", parts[5], f"expected {expected}")
    return arn


def _split(text: object, where: str) -> list[str]:
    if not isinstance(text, str):
        raise UserError(f"{where}: expected an ARN, as text")
    if len(text) > MAX_ARN_CHARACTERS:
        raise UserError(f"{where}: an ARN has at most {MAX_ARN_CHARACTERS} characters, this has {len(text)}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UserError(f"{where}: {text[:100]!r} has blanks, line ends or other characters that no ARN has")
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        expected = "arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE"
        raise UserError(f"{where}: {text[:100]!r} is not a valid ARN: expected {expected}")
    return parts


def _check_name(arn: Arn, pattern: re.Pattern[str], where: str, expected: str) -> None:
    if not pattern.fullmatch(arn.name):
        raise _wrong(where, "name", arn.name, expected)


def _wrong(where: str, part: str, found: str, expected: str) -> UserError:
    return UserError(f"{where}: the {part} of the ARN is {found[:100]!r}: {expected}")
