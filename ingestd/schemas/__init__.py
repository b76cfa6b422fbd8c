"""What a valid event is: one file per kind of schema, ``load`` to choose one."""

from typing import Literal

ActionType = Literal["ANSWER", "TRANSFER", "DISCONNECT", "QUEUE", "REQUEUE"]
"""What happens to an interaction."""
