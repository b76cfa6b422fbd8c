"""The errors a person sees. Everything else that is raised is a bug or a lost resource."""

from typing import TypeVar

_E = TypeVar("_E", bound=BaseException)


class UserError(Exception):
    """Something the user can put right: said in one line, with no traceback.

    ``exit_code``: 2 usage or configuration, 3 something was not delivered, 4 the API could not be
    reached or refused the login.
    """

    exit_code = 2


class TooManyRejected(UserError):
    """More events than allowed; what was delivered is."""

    exit_code = 3


class NotFound(UserError):
    """What was asked for is not there."""


class Busy(UserError):
    """As many as may do this at once are at it: the same works later."""


class Held(Exception):
    """Nothing is to be sent now, though it was about to be."""


class Unreachable(UserError):
    """The API or its login host did not answer, or did not let us in."""

    exit_code = 4


def first_cause(group: BaseExceptionGroup[_E]) -> _E:
    """The first error behind the wrapping of tasks that ran together."""
    error = group.exceptions[0]
    return first_cause(error) if isinstance(error, BaseExceptionGroup) else error
