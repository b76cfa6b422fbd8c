from ingestd.httpd.response import Response
from tests.each import each
from tests.integration.sources.http.support import PRODUCERS, Scene, header

ORIGIN = "webhook-request-origin"


def options(scene: Scene, *, repeated: frozenset[str] = frozenset(), **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = scene.send(b"", named, method="OPTIONS", length=False, repeated=repeated)
    assert answer is not None
    assert answer.status == 200
    assert answer.body == b""
    assert header(answer, "allow") == "POST, OPTIONS"
    return answer


@each("asked", ["eventemitter.example.com", "EventEmitter.Example.COM"])
def test_a_known_origin_is_granted_by_the_header(asked: str) -> None:
    scene = Scene(PRODUCERS, webhook_origins=("other.example", "eventemitter.example.com"), webhook_rate=120)
    answer = options(scene, webhook_request_origin=asked, webhook_request_rate="500")
    assert header(answer, "webhook-allowed-origin") == "eventemitter.example.com"
    assert header(answer, "webhook-allowed-rate") == "120"


def test_everybody_can_be_granted_and_the_rate_left_open() -> None:
    answer = options(Scene(webhook_origins=("*",)), webhook_request_origin="a.example\r\nx: y")
    assert header(answer, "webhook-allowed-origin") == "*"
    assert header(answer, "webhook-allowed-rate") == "*"


@each(
    ("origins", "asked"),
    [
        ((), "a.example"),
        (("b.example",), "a.example"),
        (("a.example",), "x.a.example"),
        (("*",), ""),
        (("",), ""),
    ],
)
def test_a_stranger_is_not_granted_anything(origins: tuple[str, ...], asked: str) -> None:
    answer = options(Scene(webhook_origins=origins), webhook_request_origin=asked, webhook_request_rate="1")
    assert header(answer, "webhook-allowed-origin") is None
    assert header(answer, "webhook-allowed-rate") is None


def test_an_origin_is_needed_once() -> None:
    scene = Scene(webhook_origins=("*",))
    assert header(options(scene), "webhook-allowed-origin") is None
    answer = options(scene, webhook_request_origin="a, b", repeated=frozenset({ORIGIN}))
    assert header(answer, "webhook-allowed-origin") is None


def test_a_callback_is_ignored() -> None:
    scene = Scene(webhook_origins=("a.example",))
    callback = "http://127.0.0.1/latest/meta-data"
    asked = options(scene, webhook_request_origin="a.example", webhook_request_callback=callback)
    assert asked == options(scene, webhook_request_origin="a.example")
