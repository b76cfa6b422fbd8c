from ingestd.core.submission import DeferredSubmission
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, LINES, Scene, content, header

CHUNKED = {**JSON, "transfer-encoding": "chunked"}


def test_an_event_is_submitted_as_the_bytes_it_came_in_and_accepted() -> None:
    scene = Scene()
    answer = scene.send(b" \n" + EVENT + b"\r\n")
    assert answer is not None
    assert (answer.status, answer.body) == (202, b'{"accepted":1,"duplicates":0,"rejected":[]}')
    assert header(answer, "content-type") == "application/json"
    (submission,) = scene.desk.submissions
    assert submission.events == [EVENT]
    assert submission.size_bytes == len(EVENT)
    assert (submission.producer, submission.atomic, submission.wait_s) == ("", False, 0.0)


@each("target", ["/", "/v1/events/", "/v1/event", "/v1/%65vents", "*", "/V1/events"])
@each("method", ["POST", "GET", "OPTIONS"])
def test_other_paths_are_not_found(method: str, target: str) -> None:
    scene = Scene()
    assert scene.status(EVENT, method=method, target=target) == 404
    assert not scene.bodies_read


@each("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "post"])
def test_other_methods_are_told_which_are_allowed(method: str) -> None:
    answer = Scene().send(method=method)
    assert answer is not None
    assert answer.status == 405
    assert header(answer, "allow") == "POST, OPTIONS"


def test_a_post_without_a_length_is_told_to_send_one() -> None:
    assert Scene().status(EVENT, length=False) == 411
    assert Scene().status(EVENT, CHUNKED, length=False) == 202


@each(
    ("length", "status"),
    [("100", 202), ("101", 413), ("9" * 5000, 413), ("-1", 400), ("1_0", 400), ("٣", 400), ("", 400)],
)
def test_a_body_that_announces_too_much_is_refused_before_it_is_read(length: str, status: int) -> None:
    scene = Scene(max_body_bytes=100)
    assert scene.status(EVENT, {**JSON, "content-length": length}, length=False) == status
    assert scene.bodies_read == (status == 202)


@each(
    ("query", "atomic", "wait_s"),
    [
        ("", False, 0.0),
        ("?", False, 0.0),
        ("?atomic=true", True, 0.0),
        ("?atomic=false", False, 0.0),
        ("?wait=delivered", False, 7.0),
        ("?wait=delivered&atomic=true", True, 7.0),
        ("?atomic=%74rue", True, 0.0),
    ],
)
def test_parameters_reach_the_submission(query: str, atomic: bool, wait_s: float) -> None:
    scene = Scene(wait_timeout_s=7.0)
    assert scene.status(EVENT, target="/v1/events" + query) == 202
    assert (scene.desk.submissions[0].atomic, scene.desk.submissions[0].wait_s) == (atomic, wait_s)


@each(
    "query",
    [
        *("atomic=1", "atomic=True", "atomic", "atomic=", "wait=stored", "wait", "Atomic=true", "x=1", "&"),
        *("atomic=true&atomic=true", "atomic=true&", "wait=delivered&wait=delivered", "access_token=abc"),
        *("atomic=%", "atomic=%ff", "atomic=true;wait=delivered", "\xff=1"),
    ],
)
def test_an_unknown_parameter_or_value_is_refused_before_the_body_is_read(query: str) -> None:
    scene = Scene()
    assert scene.status(EVENT, target="/v1/events?" + query) == 400
    assert not scene.bodies_read


@each(
    "media_type",
    [
        *("", "text/html", "text/plain", "application/octet-stream", "json", "application/json-seq", ";"),
        *("application/cloudevents", "application/cloudevents+avro", "application/cloudevents-batch+avro"),
        *("application/json; charset=utf-16", "application/json;charset=utf-8;charset=latin1"),
        *("application/x-ndjson; charset=iso-8859-1", "application/x-www-form-urlencoded"),
    ],
)
def test_what_is_not_understood_is_told_what_is(media_type: str) -> None:
    scene = Scene()
    answer = scene.send(EVENT, {"content-type": media_type} if media_type else {})
    assert answer is not None
    assert answer.status == 415
    accepted = header(answer, "accept-post")
    assert accepted is not None
    assert "application/x-ndjson" in accepted.split(", ")
    assert not scene.bodies_read


@each(
    "media_type",
    [
        *("application/json", "Application/JSON", "application/json; charset=utf-8", " application/json ;"),
        *('application/json;CharSet="UTF-8"', "application/json; profile=x", "application/x-ndjson"),
        *("application/ndjson", "application/jsonl", "application/cloudevents+json; charset=UTF-8"),
    ],
)
def test_an_event_is_taken_in_every_format_that_fits_it(media_type: str) -> None:
    scene = Scene()
    assert scene.status(EVENT, {"content-type": media_type}) == 202
    assert scene.desk.events == [EVENT]


def test_a_content_type_that_came_twice_is_refused() -> None:
    headers = {"content-type": "application/json, application/json"}
    assert Scene().status(EVENT, headers, repeated=frozenset({"content-type"})) == 400


@each("coding", ["br", "deflate", "gzip, gzip", "gzip, identity", "compress", "*"])
def test_a_coding_that_is_not_understood_is_told_which_are(coding: str) -> None:
    scene = Scene()
    answer = scene.send(EVENT, {**JSON, "content-encoding": coding})
    assert answer is not None
    assert answer.status == 415
    assert header(answer, "accept-encoding") == "gzip, zstd"
    assert not scene.bodies_read


@each("status", [429, 503])
def test_while_nothing_can_be_taken_no_body_is_read(status: int) -> None:
    scene = Scene()
    scene.desk.closed = DeferredSubmission(status, 7, "the spool is full")
    answer = scene.send(EVENT)
    assert answer is not None
    assert answer.status == status
    assert header(answer, "retry-after") == "7"
    assert content(answer)["detail"] == "the spool is full"
    assert not scene.bodies_read


def test_a_refusal_of_admission_reaches_the_producer() -> None:
    scene = Scene()
    scene.desk.verdict = lambda submission: DeferredSubmission(503, 0, "the disk is full")
    answer = scene.send(EVENT)
    assert answer is not None
    assert answer.status == 503
    assert header(answer, "retry-after") == "1"


def test_the_answer_comes_when_admission_has_it_and_not_before() -> None:
    scene = Scene()
    scene.desk.verdict = lambda submission: None
    assert scene.send(EVENT) is None
    assert len(scene.desk.submissions) == 1


def test_settings_can_be_replaced_while_running() -> None:
    scene, body = Scene(), EVENT + b"\n" + EVENT
    assert scene.status(body, LINES) == 202
    scene.endpoint.settings = type(scene.endpoint.settings)(max_events=1)
    assert scene.status(body, LINES) == 413
