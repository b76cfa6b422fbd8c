"""Which URLs the guard lets pass: every spelling of an address, against what ``ipaddress`` says of it."""

import ipaddress
import socket
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.errors import UserError
from ingestd.transport.client import _target
from ingestd.transport.url_guard import AddressRefused, UrlGuard, judge
from tests.each import each

STRICT = UrlGuard(allow_private=False)
LENIENT = UrlGuard(allow_private=True)

any_4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
any_6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
INTERNAL_4 = ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "0.0.0.0/8")
FORBIDDEN_4 = ("169.254.0.0/16", "224.0.0.0/4", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32")


def within(*networks: str) -> st.SearchStrategy[ipaddress.IPv4Address]:
    chosen = st.sampled_from([ipaddress.IPv4Network(network) for network in networks])
    return chosen.flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(ipaddress.IPv4Address)
    )


def spellings(address: ipaddress.IPv4Address) -> list[str]:
    """How inet_aton, browsers and Python take the same address otherwise."""
    number = int(address)
    a, b, c, d = address.packed
    return [
        str(number),
        hex(number),
        hex(number).upper(),
        f"0{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:03}.{b:03}.{c:03}.{d:03}1",
        f"{address}.",
        f"{address}..",
        str(address).translate({ord("0") + n: 0xFF10 + n for n in range(10)}),  # full-width digits
        str(address).translate({ord("0") + n: 0x0660 + n for n in range(10)}),  # Arabic-Indic digits
        str(address).replace(".", "\u3002"),  # the ideographic full stop, a dot to IDNA
        f"{a}%2e{b}.{c}.{d}",
    ]


def hidden_in_6(address: ipaddress.IPv4Address) -> list[str]:
    number, high, low = int(address), int(address) >> 16, int(address) & 0xFFFF
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    return [
        f"::ffff:{address}",
        f"::FFFF:{high:x}:{low:x}",
        str(mapped),
        mapped.exploded,
        f"64:ff9b::{address}",
        f"2002:{high:x}:{low:x}::1",
        f"::{high:x}:{low:x}" if number > 0xFFFF else f"::0.0.{low >> 8}.{low & 255}",
    ]


def refused(host: str, guard: UrlGuard) -> bool:
    """By its URL and, which must be no weaker, as the client asks before it connects."""
    shown = f"[{host}]" if ":" in host else host
    try:
        guard.check_url(f"https://{shown}/hook")
    except UserError:
        return True
    assert not guard.refusal(host)
    return False


@given(any_4 | within(*INTERNAL_4, *FORBIDDEN_4))
def test_what_is_not_global_by_ipaddress_is_refused(address: ipaddress.IPv4Address) -> None:
    bad = not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local
    if bad:
        assert refused(str(address), STRICT)
    assert refused(str(address), STRICT) is bool(judge(address)[0])


@given(any_6)
def test_of_ipv6_only_global_unicast_passes(address: ipaddress.IPv6Address) -> None:
    if not refused(str(address), STRICT):
        assert address.is_global
        assert not address.is_multicast
        assert address in ipaddress.IPv6Network("2000::/3") or address in ipaddress.IPv6Network(
            "64:ff9b::/96"
        )
    if address.is_private or address.is_link_local or address.is_site_local or address.is_loopback:
        assert refused(str(address), STRICT)
    assert refused(address.exploded, STRICT) is refused(str(address), STRICT)


@given(any_4 | within(*INTERNAL_4))
def test_no_address_can_be_written_in_another_way(address: ipaddress.IPv4Address) -> None:
    for spelling in spellings(address):
        assert refused(spelling, STRICT), spelling
        assert refused(spelling, LENIENT), spelling
        assert LENIENT.refusal(spelling), spelling


@given(within(*INTERNAL_4, *FORBIDDEN_4))
def test_an_address_inside_an_ipv6_address_is_what_it_is_outside(address: ipaddress.IPv4Address) -> None:
    forbidden = judge(address)[0] == "forbidden"
    for spelling in hidden_in_6(address):
        assert refused(spelling, STRICT), spelling
        assert refused(spelling, LENIENT) is forbidden, spelling


@given(within(*FORBIDDEN_4), st.booleans())
def test_link_local_and_metadata_are_refused_whatever_is_allowed(
    address: ipaddress.IPv4Address, private: bool
) -> None:
    assert refused(str(address), UrlGuard(allow_private=private, allowed_hosts=[str(address)]))


@given(st.text(max_size=30) | st.text(alphabet="a1.:/@\\[]%?#-x", max_size=20))
def test_whatever_passes_names_one_host_that_every_parser_sees(text: str) -> None:
    url = f"https://{text}"
    try:
        STRICT.check_url(url)
    except UserError:
        return
    target = _target(url)[0]
    assert urlsplit(url).hostname == httpx.URL(url).host == target.host
    assert not STRICT.refusal(target.host)


@given(st.text(alphabet="0123456789xX.abcdef", min_size=1, max_size=20))
def test_what_the_system_takes_for_an_address_passes_only_as_a_dotted_quad(host: str) -> None:
    try:
        number = socket.inet_aton(host)
    except OSError:
        return
    if not refused(host, STRICT):
        assert host == str(ipaddress.IPv4Address(number))


@each(
    "url",
    [
        "https://[fd00:ec2::254]/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://metadata.google.internal/computeMetadata/v1/",
        "https://metadata/",
        "https://METADATA.google.internal./",
        "https://[fe80::1]/",
        "https://[ff02::1]/",
        "ftp://example.com/",
        "//example.com/",
        "https:example.com",
        "https:///path",
        "https://",
        "https://user:pass@example.com/",
        "https://user@example.com/",
        "https://@example.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:٤٤٣/",
        "https://exam ple.com/",
        "https://example.com/a\nb",
        "https://example.com/\t",
        "https://example.com/\n",
        "https://bücher.example/",
        "https://ⓛocalhost/",
        "https://[::1/",
        "https://[not:an:address]/",
        "https://example.com../",
        "https://example.com/" + "a" * 9000,
    ],
)
def test_a_url_that_is_refused_in_any_case(url: str) -> None:
    for guard in (STRICT, LENIENT):
        with pytest.raises(UserError) as refusal:
            guard.check_url(url, what="target.crm.endpoint_url")
        assert str(refusal.value).startswith("target.crm.endpoint_url: ")
        assert not {"pass", "\n"} & set(str(refusal.value).partition(": ")[2].split(" "))


@each(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "ip6-loopback",
        "127.0.0.1",
        "[::1]",
        "[::]",
        "0.0.0.0",
    ],
)
def test_loopback_passes_only_where_private_addresses_are_allowed(host: str) -> None:
    with pytest.raises(UserError, match="internal"):
        STRICT.check_url(f"https://{host}:8080/hook")
    LENIENT.check_url(f"https://{host}:8080/hook")
    UrlGuard(allow_private=False, allowed_hosts=[host]).check_url(f"https://{host}/hook")


@each(
    "url",
    [
        "https://example.com",
        "https://hooks.example.com:8443/a/b?c=d&e=%20#f",
        "HTTPS://EXAMPLE.com./x",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:443/",
        "https://[::ffff:8.8.8.8]/",
        "https://[64:ff9b::808:808]/",
        "https://xn--bcher-kva.example/",
        "https://service_1.example.com/",
        "https://1.example.com/",
        "https://example.com/a@b:c",
    ],
)
def test_an_ordinary_url_passes(url: str) -> None:
    STRICT.check_url(url)


def test_plain_http_needs_leave() -> None:
    with pytest.raises(UserError, match="https://"):
        STRICT.check_url("http://example.com/")
    with pytest.raises(UserError, match="https://"):
        UrlGuard(allow_private=True, allow_http=False).check_url("http://127.0.0.1/")
    LENIENT.check_url("http://127.0.0.1:9/")
    UrlGuard(allow_private=False, allowed_hosts=["gateway.internal"]).check_url("http://gateway.internal/")
    UrlGuard(allow_private=False, allow_http=True).check_url("http://example.com/")


def test_a_configured_url_is_judged_by_its_host_alone() -> None:
    LENIENT.check_host("http://user:pass@127.0.0.1:8080/x")
    for url in ("http://127.0.0.1/", "http://127.1/", "http://[::ffff:10.0.0.1]/", "http://localhost/"):
        with pytest.raises(AddressRefused):
            STRICT.check_host(url)
