"""Limits and intervals that no setting has. They are passed in, so that tests can set them."""

import msgspec

from ingestd.core.accelerator import compiled


class Bounds(msgspec.Struct, frozen=True):
    chunk_bytes: int = (2 if compiled else 1) * 1024 * 1024
    """Of a chunk of a file that is replayed. Part of the checkpoint's meaning: a restart must cut the same
    chunks, so a state directory keeps to what its first run took (``SourceState``). Where no event is an
    object of its own, twice as many take little memory, and what is done once a chunk costs half."""
    followed_chunk_bytes: int = 256 * 1024
    """Of a chunk of a file that is followed; here, too, a restart must cut the same chunks."""
    spool_memory_bytes: int = 16 * 1024 * 1024
    """Of chunks that wait in memory for a lane; the spool has them all the same."""
    unanswered_bytes: int = 64 * 1024 * 1024
    """Of events that are not on disk yet; past it producers wait. A disk may take seconds for one fsync."""
    waiting_requests: int = 1_000
    """Chunks whose producers wait for the delivery; past it they are answered at once with what is known."""
    pending_bytes: int = 32 * 1024 * 1024
    """Of a sink among several: of chunks with unresolved events there; then the intake waits."""
    copy_bytes: int = 32 * 1024 * 1024
    """Of copies that wait for events on their way; then the intake waits."""
    sqs_wait_s: int = 20
    """How long SQS may wait for a message before it answers that there is none: the longest it allows."""
    unowned_s: float = 30.0
    """How long partitions of a group have to be without a member, after what giving back may take, until one
    joins it again; twice as long where that member has others, as it gives them back for it."""
    outage_look_s: float = 1.0
    """How often a lane checks the deadline of an outage while nothing happens."""
    look_at_states_s: float = 1.0
    """Time between two looks at whether a sink stands still, and why."""
    maintenance_s: float = 0.5
    """How often what was noted becomes durable although nothing is sent, and files are looked at."""
    measure_s: float = 1.0
    """How often a service measures how fast its spool empties, and what its console shows."""
    look_at_backlog_s: float = 1.0
    """Time between two looks at which sinks a person has parked, and at the age of what waits for each."""
    count_letters_s: float = 2.0
    """So old may the number of letters be that is shown: other processes purge and mark them too."""


DEFAULT_BOUNDS = Bounds()
