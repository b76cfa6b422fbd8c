"""What tasks that ran together raise is told as the one error behind it."""

from ingestd.core.errors import UserError, first_cause


def test_the_first_cause_is_found_however_deep() -> None:
    inner, other = UserError("disk full"), UserError("later")
    assert first_cause(ExceptionGroup("a", [ExceptionGroup("b", [inner, other]), other])) is inner
