import json

from ingestd.core.submission import AcceptedSubmission, DeferredSubmission, Rejection, SubmissionOutcome
from ingestd.httpd.problem import problem
from ingestd.sources.http.endpoint import answer_to
from tests.each import each
from tests.integration.sources.http.support import EVENT, LINES, Scene, assert_well_formed, content, header

WRONG = Rejection(0, "a", [{"field": "type", "message": "required, but missing"}])


@each(
    ("taken", "status"),
    [
        (AcceptedSubmission(1, 0, []), 202),
        (AcceptedSubmission(3, 2, []), 202),
        (AcceptedSubmission(0, 1, []), 202),
        (AcceptedSubmission(1, 0, [WRONG]), 202),
        (AcceptedSubmission(0, 1, [WRONG]), 202),
        (AcceptedSubmission(0, 0, [WRONG]), 422),
        (AcceptedSubmission(0, 0, [WRONG], stored=False), 422),
        (AcceptedSubmission(0, 4, [WRONG], stored=False), 422),
    ],
)
def test_the_answer_counts_and_its_status_says_whether_anything_is_safe(
    taken: AcceptedSubmission, status: int
) -> None:
    answer = answer_to(taken)
    assert_well_formed(answer)
    assert answer.status == status
    rejected = [{"index": 0, "id": "a", "errors": list(WRONG.errors)}] if taken.rejected else []
    assert json.loads(answer.body) == {
        "accepted": taken.accepted,
        "duplicates": taken.duplicates,
        "rejected": rejected,
    }


def test_an_atomic_request_with_one_bad_event_stores_nothing() -> None:
    body = EVENT + b"\n{}\n" + EVENT
    answer = Scene().send(body, LINES, target="/v1/events?atomic=true")
    assert answer is not None
    assert answer.status == 422
    assert content(answer)["accepted"] == 0
    assert [rejection["index"] for rejection in content(answer)["rejected"]] == [1]
    assert Scene().status(body, LINES) == 202


def test_nothing_counts_as_accepted_where_nothing_was_stored() -> None:
    assert json.loads(answer_to(AcceptedSubmission(5, 0, [WRONG], stored=False)).body)["accepted"] == 0


def test_whoever_waited_is_told_the_ends() -> None:
    answer = answer_to(AcceptedSubmission(3, 0, [], SubmissionOutcome(1, 1, 1)))
    assert answer.status == 202
    ends = {"delivered": 1, "dead_lettered": 1, "pending": 1}
    assert json.loads(answer.body) == {"accepted": 3, "duplicates": 0, "rejected": [], **ends}


def test_the_list_of_rejected_events_is_bounded_and_its_length_told() -> None:
    for count in (100, 101, 20_000):
        told = json.loads(
            answer_to(AcceptedSubmission(0, 0, [WRONG._replace(position=i) for i in range(count)])).body
        )
        assert [entry["index"] for entry in told["rejected"]] == list(range(100))
        assert told.get("rejected_total", 100) == count


def test_hostile_ids_are_escaped_and_cut() -> None:
    ids = ["\ud800", "\r\nSet-Cookie: x", "é" * 1_000_000, "</script>", None]
    rejected = [Rejection(i, name, list(WRONG.errors)) for i, name in enumerate(ids)]
    answer = answer_to(AcceptedSubmission(0, 0, rejected))
    assert answer.body.isascii()
    assert b"\n" not in answer.body
    assert len(answer.body) < 5_000
    told = [entry["id"] for entry in json.loads(answer.body)["rejected"]]
    assert told[:2] == ids[:2]
    assert told[2] == "é" * 255 + "…"
    assert told[4] is None


@each(("given", "told"), [(-5, "1"), (0, "1"), (1, "1"), (90, "90")])
def test_retry_after_is_at_least_a_second(given: int, told: str) -> None:
    answer = answer_to(DeferredSubmission(429, given, "the spool is full"))
    assert_well_formed(answer)
    assert header(answer, "retry-after") == told


def test_a_problem_has_the_members_of_its_standard() -> None:
    answer = problem(400, 'say "why"', headers=[("Allow", "POST")])
    assert json.loads(answer.body) == {"title": "Bad Request", "status": 400, "detail": 'say "why"'}
    assert header(answer, "content-type") == "application/problem+json"
    assert header(answer, "allow") == "POST"


def test_an_answer_is_bounded_in_bytes_too() -> None:
    wrong = [{"field": "\U0001f600" * 100, "message": "\U0001f600" * 200}] * 10
    answer = answer_to(
        AcceptedSubmission(0, 0, [Rejection(i, "é" * 200, wrong) for i in range(100)], unlisted=900)
    )
    assert len(answer.body) < 300_000
    told = json.loads(answer.body)
    assert 1 <= len(told["rejected"]) < 100
    assert told["rejected_total"] == 1_000
