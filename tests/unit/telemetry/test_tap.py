"""What a tap shows of an event that is not an event, and that it stops nothing."""

from ingestd.core.clock import SystemClock
from ingestd.telemetry.tap import Tap, shown
from tests.each import each


@each("event", [b'{"a":"\xff"}', b"\xff\xfe\x00", b"[" * 5000, b"", b'"\\ud800"'])
def test_what_is_no_event_is_shown_as_far_as_it_can_be_or_by_its_size(event: bytes) -> None:
    assert isinstance(shown(event, ()), str)
    assert shown(event, (("a",),)) == f"{len(event)} bytes that are not JSON"


def test_the_words_do_not_say_what_is_masked_and_who_looks_stops_nothing() -> None:
    def fails(event: bytes) -> bool:
        raise KeyError(event)

    tap = Tap(SystemClock(), (("phone",),))
    with tap.listen() as one, tap.listen(matches=fails) as other:
        tap.show("rejected", [b'{"phone":"123"}'], why="invalid: phone: expected a number, found '123'")
        (sample,) = one.take_all()
        assert (sample["why"], sample["event"], other.missed) == ("invalid", {"phone": "***"}, 1)
