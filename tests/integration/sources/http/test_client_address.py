"""Behind a proxy clients are told apart by X-Forwarded-For, if the proxy is a trusted one."""

from ingestd.httpd.request import Request
from ingestd.sources.http.access_tokens import FailedAttempts
from ingestd.sources.http.auth import Authenticator
from ingestd.sources.http.client_address import TrustedProxies
from ingestd.sources.http.endpoint import Endpoint, EndpointSettings
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, Scene
from tests.integration.sources.http.test_api_destinations import PASSWORD, PRODUCERS, basic, posted_by

PROXIES = TrustedProxies(["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"])


@each(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7,\t10.1.2.3 ,fd00::1", "198.51.100.7"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.2.3", "198.51.100.7"),  # the client wrote the first
        ("127.0.0.1", "127.0.0.1, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "10.0.0.1, 10.0.0.2", "10.0.0.1"),
        ("127.0.0.1", "198.51.100.7:40312", "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:40312", "2001:db8::7"),
        ("127.0.0.1", "2001:DB8:0:0::7", "2001:db8::7"),
        ("127.0.0.1", "::ffff:198.51.100.7, ::ffff:10.0.0.1", "198.51.100.7"),
        ("127.0.0.1", "fe80::7%made=up, 10.0.0.1", "fe80::7"),
        ("127.0.0.1", "198.51.100.7, unknown, 10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "198.51.100.7, " + "1" * 5000, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7,", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("198.51.100.1", "203.0.113.9", "198.51.100.1"),
        ("198.51.100.1", "10.0.0.1", "198.51.100.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxys(
    peer: str, forwarded: str, client: str
) -> None:
    request = Request("POST", "/", "/", "", {"x-forwarded-for": forwarded}, None, peer)
    assert PROXIES.client_of(request) == client


def test_a_proxy_that_names_nobody_stands_for_its_clients() -> None:
    assert PROXIES.client_of(Request("POST", "/", "/", "", {}, None, "10.0.0.1")) == "10.0.0.1"


def test_behind_a_trusted_proxy_who_tries_secrets_holds_up_nobody_else() -> None:
    scene = Scene(PRODUCERS, trusted_proxies=PROXIES)
    theirs, ours = {"x-forwarded-for": "203.0.113.9"}, {"x-forwarded-for": "198.51.100.7"}
    tried = [posted_by(scene, basic("bridge", "wrong") | theirs) for _ in range(11)]
    assert tried == [401] * 10 + [429]
    assert posted_by(scene, basic("bridge", PASSWORD) | ours) == "basic"
    assert posted_by(scene, basic("bridge", PASSWORD) | theirs) == 429


def test_an_ipv6_network_is_one_client_and_an_ipv4_address_in_ipv6_is_one() -> None:
    scene = Scene(PRODUCERS, trusted_proxies=PROXIES)

    def post(client: str, password: str = "wrong") -> object:
        return posted_by(scene, basic("bridge", password) | {"x-forwarded-for": client})

    assert [post(f"2001:db8:0:1:{number}::7") for number in range(11)] == [401] * 10 + [429]
    assert post("2001:db8:0:2::7", PASSWORD) == "basic"
    attempts = FailedAttempts(scene.clock)
    for number in range(10):
        attempts.failed(f"::ffff:198.51.100.{number}", "one")
        attempts.failed("fe80::7%eth0", "one")
    assert not attempts.wait_s("::ffff:198.51.100.7", "one")
    assert attempts.wait_s("fe80::8%eth1", "one")
    assert not attempts.wait_s("/run/ingestd.sock", "one")


def test_without_trust_a_client_cannot_choose_its_address() -> None:
    scene = Scene(PRODUCERS)
    for number in range(10):
        assert posted_by(scene, basic("bridge", "wrong") | {"x-forwarded-for": f"203.0.113.{number}"}) == 401
    assert posted_by(scene, basic("bridge", PASSWORD) | {"x-forwarded-for": "198.51.100.7"}) == 429


def test_a_refusal_names_the_client_and_not_the_proxy() -> None:
    scene, told = Scene(PRODUCERS), list[tuple[str, str, int, str]]()
    scene.endpoint = Endpoint(
        EndpointSettings(trusted_proxies=PROXIES),
        Authenticator(PRODUCERS, clock=scene.clock),
        scene.desk,
        scene.clock,
        refused=lambda *one: told.append(one),
    )
    assert scene.status(EVENT, JSON | {"x-forwarded-for": "198.51.100.7"}) == 401
    key = {"x-shop-key": PRODUCERS["key"].api_keys[0], "x-forwarded-for": "198.51.100.8"}
    assert scene.status(b"{}", JSON | key) == 422
    assert [one[:3] for one in told] == [("", "198.51.100.7", 401), ("key", "198.51.100.8", 422)]
