"""Why an event became a dead letter: a closed list, used by the store, the metrics and the docs."""

from enum import StrEnum


class Reason(StrEnum):
    INVALID = "invalid"  # fails its schema
    UNPARSABLE = "unparsable"  # not JSON, or bytes that are not UTF-8
    LINE_TOO_LONG = "line_too_long"  # longer than the source's limit; only its head is kept
    TOO_LARGE = "too_large"  # one event alone is over the size limit of a request
    REFUSED = "refused"  # the API answers that it will not take this event
    GAVE_UP = "gave_up"  # tried for longer than give_up_after, or more often than max_attempts
    DAMAGED = "damaged"  # its chunk of the spool no longer has its checksum, or a letter lost its envelope
    UNTRANSFORMED = "untransformed"  # a transform failed on it: it is as it came
    UNENCODABLE = "unencodable"  # its sink cannot encode it: a field is missing, or its kind is unknown
    FAILED = "failed"  # the API accepted it, and said later that it failed
    UNCONFIRMED = "unconfirmed"  # the API accepted it, and has not said in time what became of it
    INTERRUPTED = "interrupted"  # the process ended first and its source cannot be read again

    __hash__ = str.__hash__  # that of enumerations is written in Python, and many letters have one


REJECTED = frozenset({Reason.INVALID, Reason.UNPARSABLE, Reason.LINE_TOO_LONG})
"""Counted as ``rejected`` in the ledger: the event never was a candidate for delivery."""

RETRYABLE = frozenset({Reason.GAVE_UP, Reason.INTERRUPTED})
"""Sent again by the retry worker by itself; the others wait for a person."""
