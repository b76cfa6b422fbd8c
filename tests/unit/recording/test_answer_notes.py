"""What people are told of answers, once for each kind."""

from ingestd.core.answer import Answer
from ingestd.core.clock import SystemClock
from ingestd.core.verdict import Meaning, Verdict
from ingestd.recording.answer_notes import AnswerNotes


def test_each_kind_is_told_once() -> None:
    said: list[str] = []
    notes = AnswerNotes("crm", warn=said.append, clock=SystemClock())
    for _ in range(3):
        notes.look(Answer(200), Verdict(Meaning.ACCEPTED, unmatched=1), request_id="r")
        told = Verdict(Meaning.ACCEPTED, "200 no", unmatched=1, unmatched_words='"success": false')
        notes.look(Answer(200), told, request_id="r")
    assert len(said) == 2
    assert said[1].startswith('crm: request r: the answer says "success": false, and names no event of it')
    assert "[sinks.crm.answers]" in said[1]


def test_a_retry_after_that_is_none_is_told_once() -> None:
    said: list[str] = []
    notes = AnswerNotes("crm", warn=said.append, clock=SystemClock())
    for value in ("3.5", "2", "Wed, 21 Oct 2015 07:28:00 GMT"):
        notes.look(Answer(429, {"retry-after": value}), Verdict(Meaning.RETRY), request_id="r")
    assert said == []
    for value in ("Wed, 21 Oct 2015 07:28:00 UTC", "soon"):
        notes.look(Answer(429, {"retry-after": value}), Verdict(Meaning.RETRY), request_id="r")
    assert len(said) == 1
    assert "07:28:00 UTC" in said[0]
