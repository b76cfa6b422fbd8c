"""What tasks that ran together raise is told as the one error behind it."""

from ingestd.core.clock import ungrouped
from ingestd.core.errors import UserError, first_cause


def test_the_first_cause_is_found_however_deep() -> None:
    inner, other = UserError("disk full"), UserError("later")
    assert first_cause(ExceptionGroup("a", [ExceptionGroup("b", [inner, other]), other])) is inner


def raised(error: BaseException, *kinds: type[Exception]) -> BaseException:
    try:
        with ungrouped(*kinds):
            raise error
    except BaseException as found:
        return found


def test_an_error_that_tasks_raised_is_raised_as_itself() -> None:
    inner, other = OSError("inner"), KeyError("other")
    assert raised(ExceptionGroup("", [ExceptionGroup("", [inner])]), OSError) is inner
    assert raised(inner, OSError) is inner
    assert raised(other, OSError) is other
    group = ExceptionGroup("", [other])
    assert raised(group, OSError) is group
    both = raised(ExceptionGroup("", [other, inner]), OSError)
    assert isinstance(both, BaseExceptionGroup)
    assert both.exceptions[0] is inner
    rest = both.exceptions[1]
    assert isinstance(rest, BaseExceptionGroup)
    assert rest.exceptions == (other,)
