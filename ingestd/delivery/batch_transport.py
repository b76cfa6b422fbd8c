"""How a lane sends: the contract of transports. ``transport/client.py`` has the real one."""

from typing import Protocol

from ingestd.core.answer import Answer, Octets


class BatchTransport(Protocol):
    """Sends one request with credentials; raises nothing for network errors. ``refusal``: what it means that
    they are refused although renewed. ``hold``: send nothing, raise Held. ``drop_token``: it was refused."""

    def hold(self, on: bool) -> None: ...

    @property
    def refusal(self) -> str: ...

    async def send(self, url: str, body: Octets, headers: dict[str, str]) -> tuple[Answer, int]:
        """The answer, and the generation of the token it was sent with. Raises Unreachable when the
        login is refused or stays out of reach."""
        ...

    def drop_token(self, generation: int) -> None: ...
