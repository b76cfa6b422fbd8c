"""The table ``[ingest.genesys_notifications]``, or one by name: topics that are listened to."""

from typing import Annotated

from ingestd.core.setting_types import Before, Matching, Seconds, as_list, field
from ingestd.core.unwrap import UnwrapSection

MAX_TOPICS = 10_000
"""Ten channels of the 20 that a client may have: each is replaced by another before it ends."""
NotificationTopic = Annotated[str, Matching(r"^v2\.[!-~]{1,500}$")]


class NotificationsConfig(UnwrapSection):
    """Topics of the Notifications API, with the login of [api]. Their events go into the spool."""

    topics: Annotated[list[NotificationTopic], Before(as_list)] = field(
        [], max_length=MAX_TOPICS, description="as v2.users.USERID.presence; needed"
    )
    renew_after: Seconds = field(
        43_200.0,
        ge=60,
        le=82_800,
        description="age at which a channel is replaced; it ends after 24h",
    )

    def _check(self) -> None:
        if not self.topics:
            raise ValueError("topics are missing: what to listen to, as v2.users.USERID.presence")
