"""Who may look and change on the admin address."""

from ingestd.admin.access import COOKIE, MAX_SESSIONS, SESSION_S, Access, ConsoleToken, Role, Visitor
from ingestd.core.clock import SystemClock
from tests.each import each

ANNA, BERT = "anna-token-0123456789", "bert-token-0123456789"
LOCAL = {"host": "127.0.0.1:9464"}


class HandClock(SystemClock):
    now = 0.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now


def access(clock: HandClock | None = None) -> Access:
    made = Access(clock or HandClock())
    made.configure([ConsoleToken("anna", ANNA, Role.OPERATOR), ConsoleToken("bert", BERT, Role.VIEWER)])
    return made


def cookie(value: str | None) -> dict[str, str]:
    assert value
    return {**LOCAL, "cookie": f"other=1; {COOKIE}={value}"}


@each(
    ("peer", "headers", "role"),
    [
        ("127.0.0.1", LOCAL, Role.VIEWER),
        ("127.9.9.9", {"host": "localhost:9464"}, Role.VIEWER),
        ("::1", {"host": "[::1]:9464"}, Role.VIEWER),
        ("::ffff:127.0.0.1", LOCAL, Role.VIEWER),
        ("10.0.0.7", LOCAL, Role.NOBODY),
        ("", LOCAL, Role.NOBODY),
        ("127.0.0.1", {"host": "rebound.example:9464"}, Role.NOBODY),
        ("127.0.0.1", {}, Role.NOBODY),
        ("127.0.0.1", {**LOCAL, "x-forwarded-for": "203.0.113.9"}, Role.NOBODY),
        ("127.0.0.1", {**LOCAL, "x-forwarded-proto": "https"}, Role.NOBODY),
        ("127.0.0.1", {**LOCAL, "forwarded": "for=203.0.113.9"}, Role.NOBODY),
        ("10.0.0.7", {"authorization": f"Bearer {BERT}"}, Role.VIEWER),
        ("10.0.0.7", {"authorization": f"bearer {ANNA}"}, Role.OPERATOR),
        ("127.0.0.1", {**LOCAL, "authorization": "Bearer wrong"}, Role.NOBODY),
    ],
)
def test_from_this_machine_everybody_looks_and_from_elsewhere_a_token_is_needed(
    peer: str, headers: dict[str, str], role: Role
) -> None:
    assert access().visitor(peer, headers).role is role


def test_a_session_changes_something_only_with_its_own_csrf_token() -> None:
    made = access()
    anna = made.visitor("127.0.0.1", cookie(made.log_in("10.0.0.7", ANNA)))
    bert = made.visitor("127.0.0.1", cookie(made.log_in("10.0.0.7", BERT)))
    assert (anna.name, anna.role) == ("anna", Role.OPERATOR)
    assert made.may_change(anna, anna.csrf)
    assert not made.may_change(anna, "")
    assert not made.may_change(anna, bert.csrf)
    assert not made.may_change(bert, bert.csrf)
    assert not made.may_change(Visitor(Role.VIEWER), "")
    assert made.may_change(made.visitor("10.0.0.7", {"authorization": f"Bearer {ANNA}"}), "")


def test_a_session_ends_with_its_time_its_token_or_a_log_out() -> None:
    clock = HandClock()
    made = access(clock)
    first, second, third = (made.log_in("10.0.0.7", ANNA) for _ in range(3))
    made.log_out(f"{COOKIE}={first}")
    assert made.visitor("127.0.0.1", cookie(first)).name == ""
    assert made.visitor("127.0.0.1", cookie(second)).name == "anna"
    clock.now += SESSION_S + 1
    assert made.visitor("127.0.0.1", cookie(second)).name == ""
    fourth = made.log_in("10.0.0.7", ANNA)
    made.configure([ConsoleToken("anna", "another-token-012345", Role.OPERATOR)])
    assert made.visitor("127.0.0.1", cookie(fourth)).name == ""
    assert made.visitor("127.0.0.1", cookie(third)).name == ""


def test_wrong_tokens_are_slowed_down_and_sessions_are_few() -> None:
    clock = HandClock()
    made = access(clock)
    assert not any(made.log_in("10.0.0.7", f"guess-{number}") for number in range(10))
    assert made.log_in("10.0.0.7", ANNA) is None, "guessing goes on"
    assert made.log_in("10.0.0.8", ANNA), "who guesses shuts others out"
    assert made.visitor("10.0.0.8", {"authorization": f"Bearer {ANNA}"}).role is Role.OPERATOR
    clock.now += 60
    values = [made.log_in("10.0.0.7", ANNA) for _ in range(MAX_SESSIONS + 5)]
    assert made.visitor("127.0.0.1", cookie(values[0])).name == ""
    assert made.visitor("127.0.0.1", cookie(values[-1])).name == "anna"
