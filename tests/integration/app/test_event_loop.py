"""What a command's event loop raises."""

import pytest

from ingestd.app.event_loop import run_loop
from ingestd.core.errors import UserError


def test_several_mistakes_of_a_user_at_once_are_told_as_one_and_not_as_a_traceback() -> None:
    async def main() -> None:
        raise ExceptionGroup("both", [UserError("no token"), ExceptionGroup("x", [UserError("no disk")])])

    with pytest.raises(UserError, match="no token"):
        run_loop(main)


def test_a_fault_of_ours_is_not_hidden_behind_a_users_mistake() -> None:
    async def main() -> None:
        raise ExceptionGroup("both", [UserError("no token"), ValueError("a bug")])

    with pytest.raises(ExceptionGroup):
        run_loop(main)
