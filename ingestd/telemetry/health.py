"""Readiness: whether producers should send here now, and if not, why. Parts of the service add to it."""

from collections.abc import Callable

HealthCheck = Callable[[], str | None]
"""What is wrong, in a few words that hold no secret; None: nothing. Reads memory only."""


class Readiness:
    """Named conditions that must all hold. Ready means only that: liveness is ``/healthz``."""

    def __init__(self) -> None:
        self._checks: dict[str, HealthCheck] = {}
        self.full: HealthCheck = lambda: None
        """Whether there is no room for what producers send, which another process would not have, either."""

    def add(self, name: str, check: HealthCheck) -> None:
        """A second condition of the same name replaces the first."""
        self._checks[name] = check

    def remove(self, name: str) -> None:
        self._checks.pop(name, None)

    def reasons(self) -> list[str]:
        """``name: what is wrong`` of every condition that does not hold. A check that raises does not."""
        found: list[str] = []
        for name, check in self._checks.items():
            try:
                problem = check()
            except Exception as error:  # one broken check must not hide what the others say
                problem = f"cannot be checked ({type(error).__name__})"
            if problem:
                found.append(f"{name}: {problem}")
        return found

    @property
    def ready(self) -> bool:
        return not self.reasons()
