"""What the tables ``[sinks.NAME]`` have in common. A sink's own section stands beside the sink, in its file.

It makes the sink (``HttpSinkConfig.make``) and says what is particular to it: where it sends by default, with
whose credentials, which answers it expects. ``registry.py`` finds the sections.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.core.setting_types import (
    AS_OBJECT,
    Before,
    EventPath,
    JsonPath,
    Matching,
    Seconds,
    Size,
    Url,
    as_object,
    field,
)
from ingestd.core.transform_section import MOST_STEPS, TransformConfig
from ingestd.transport.auth_config import AuthConfig

if TYPE_CHECKING:
    from ingestd.sinks.answers import AnswerReader
    from ingestd.sinks.sink import Sink


TYPE = "which remote API"
"""Describes ``type`` in every section."""
MeaningWord = Literal["accepted", "retry", "split", "rejected", "paused", "permanent"]
_RENAMED = {
    "taken": "accepted",
    "later": "retry",
    "too_big": "split",
    "refused": "rejected",
    "forbidden": "paused",
    "dead": "permanent",
}


def _current(word: Any) -> Any:
    """Raises ValueError that gives the new word, for one that configurations had before."""
    if isinstance(word, str) and word in _RENAMED:
        raise ValueError(f"{word!r} is called {_RENAMED[word]!r} now")
    return word


Pattern = Annotated[dict[str, Any], AS_OBJECT]
Status = Annotated[str, Matching(r"^[1-5]\d\d$")]


class SinkBasis(NamedTuple):
    """What a section makes its sink from, besides itself.

    ``own_url``: of the sink itself, checked; empty: it has none. ``api``: the base URL of [api], without a
    slash at its end; empty: it is not set. ``max_events``, ``max_bytes``: of a request, by the section or by
    [batch]. ``wall``: the time of day, in seconds since 1970.
    """

    name: str
    own_url: str
    api: str
    max_events: int
    max_bytes: int
    reader: "AnswerReader"
    wall: Callable[[], float]

    def url(self, path: str = "") -> str:
        """The sink's own URL, or ``path`` at [api]. Raises UserError where there is neither."""
        if not (self.own_url or self.api):
            raise UserError(f"sinks.{self.name} has no destination: give it a url, or set [api]")
        return self.own_url or self.api + path


class AnswersConfig(Section):
    """Where the body of an answer says what became of each event; empty: the usual names are tried."""

    items: JsonPath = field("", description="path to the list, as result.failed; . is the body itself")
    index: JsonPath = field("", description="field that has the event's place in the request, from 0")
    id: JsonPath = field("", description="field that has the event's id")
    event_id: EventPath = field("", description="path of that id in the event, as data.orderId")
    message: JsonPath = field("", description="field that says what is wrong")
    retryable: JsonPath = field("", description="field that is true where the event may be sent again")
    ok: JsonPath = field(
        "", description="field that is true, ok or 2xx where the event was taken; empty: errors only"
    )


class ConfirmConfig(Section):
    """Asking the API what became of the events it has accepted."""

    url: Url = field("", description="with {id}; auto: that of [api]; empty: no confirmation")
    timeout: Seconds = field(
        300.0, gt=0, description="after this the event becomes a dead letter (unconfirmed)"
    )
    initial_delay: Seconds = field(
        1.0, gt=0, description="wait before the first status request; doubles each time"
    )
    requests_per_minute: int = field(60, ge=1, description="most status requests in a minute")
    max_pending: int = field(
        100_000, ge=1, description="most events that wait for confirmation; then sending waits"
    )
    status: JsonPath = field("status", description="field of the answer that has the status")
    delivered: tuple[str, ...] = field(("delivered",), description="values that mean the event was delivered")
    failed: tuple[str, ...] = field(("failed",), description="values that mean the event failed")


class EmptyRequest(NamedTuple):
    """A POST to the sink's URL. ``permission``: what it needs, which the API looks at before the body."""

    body: bytes
    permission: str


class SinkConfigBase(Section):
    """What every sink has."""

    url: Url = field("", description="where events go; some types know it from [api]")
    when: Pattern = field({}, description="EventBridge pattern, as TOML or JSON: which events; empty: all")
    allow_private: bool = field(True, description="requests may go to loopback and private addresses")

    @property
    def references(self) -> dict[str, str]:
        """The settings that stand for what [api] has, as ``ref:webhook.NAME.invocationUrl``."""
        texts = {name: getattr(self, name) for name in type(self).model_fields}
        return {n: text for n, text in texts.items() if isinstance(text, str) and text.startswith("ref:")}

    @property
    def secret_urls(self) -> tuple[str, ...]:
        """The settings whose URL is a secret as a whole."""
        return ()

    def check(self, place: str) -> None:
        """Raises ValueError for settings that do not fit together; ``place``: as sinks.crm, for its words."""


class HttpSinkConfig(SinkConfigBase):
    """What every sink has that sends requests."""

    order_by: str | None = field(
        None, description="JSON paths whose values keep events in order; not set: delivery.order_by"
    )
    max_in_flight: int | None = field(
        None, ge=1, le=1000, description="most requests at the same time; not set: delivery.max_in_flight"
    )
    max_events: int | None = field(
        None, ge=1, description="most events in a request; not set: batch.max_events"
    )
    max_bytes: Size | None = field(None, ge=100, description="most bytes of a body; not set: batch.max_bytes")
    max_age: Seconds | None = field(
        None, ge=0, description="how long an event waits for others to fill its batch; not set: batch.max_age"
    )
    requests_per_minute: int = field(
        0, ge=0, description="most requests in a minute; 0: as the API's own headers say"
    )
    events_per_second: float = field(0, ge=0, description="most events in a second; 0: no limit of its own")
    shared_rate: bool = field(
        False,
        description="workers of a spool on NATS share its rates and max_in_flight; else one of them sends",
    )
    max_backlog: Size | None = field(
        None, ge=1024, description="most bytes of the spool that wait for it; not set: only spool.max_bytes"
    )
    max_backlog_age: Seconds | None = field(
        None, gt=0, description="how long its oldest event may wait; not set: any time"
    )
    when_full: Literal["wait", "park"] = field(
        "wait",
        description="at max_backlog: wait: producers get 429; park: the sink is set aside, the others go on",
    )
    transforms: list[TransformConfig] = field(
        [], max_length=MOST_STEPS, description="steps that change its events, after those for all sinks"
    )
    auth: AuthConfig = AuthConfig()
    on_status: Annotated[
        dict[Status, Annotated[MeaningWord, Before(_current)]],
        as_object(dict[Status, MeaningWord]),
    ] = field({}, max_length=100, description="status codes that mean something else at this API")
    answers: AnswersConfig = AnswersConfig()
    expect: Literal["auto", "json", "any"] = field(
        "auto",
        description="json: a 2xx has to have a JSON body; any: none; auto: json where the API speaks JSON",
    )

    at_api: ClassVar[bool] = True
    """Whether requests go to [api] where no ``url`` is given."""

    @abstractmethod
    def make(self, basis: SinkBasis) -> "Sink":
        """The sink. Raises ValueError or UserError for settings that cannot be."""

    @property
    def auth_kind(self) -> str:
        """``auth.type``, and of ``auto`` what it stands for: api, the login of [api], where requests go to
        [api]; none elsewhere, since a token must not reach another host unless the configuration says so."""
        if self.auth.type != "auto":
            return self.auth.type
        return "api" if self.at_api and not self.url else "none"

    @property
    def aws(self) -> "AwsConfig | None":
        """Where the credentials of AWS come from that sign its requests; None: it has no need of them."""
        return None

    @property
    def url_file(self) -> str:
        """A file that holds the URL and nothing else; empty: none does."""
        return ""

    @property
    def handshake_origin(self) -> str:
        """Origin for the CloudEvents web-hook handshake; empty: no handshake."""
        return ""

    @property
    def needs_api(self) -> bool:
        """Whether [api] has to be set."""
        return self.auth_kind == "api" or (self.at_api and not self.url) or bool(self.references)

    @property
    def expects_json(self) -> bool:
        """What ``expect = "auto"`` stands for."""
        return True

    @property
    def is_single(self) -> bool:
        """Whether a request has one event, whatever ``max_events`` is."""
        return False

    @property
    def empty_request(self) -> EmptyRequest | None:
        """How the API is asked whether this client may send, without an event; None: it cannot be asked."""
        return None

    @property
    def confirms(self) -> ConfirmConfig | None:
        """How the API is asked what became of events; None: it is not."""
        return None


class AwsConfig(Section):
    """Of those that go to AWS. ``aws_service``: its name in signatures."""

    aws_service: ClassVar[str] = ""

    aws_region: str = field("", description="empty: as the AWS environment says")
    aws_profile: str = field("", description="profile of the AWS configuration; empty: the default one")
