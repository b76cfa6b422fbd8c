"""Error codes of JetStream that are an answer rather than a failure."""

NO_MESSAGE = 10037
"""The stream has no message with that sequence, or of that subject."""
WRONG_SEQUENCE = 10071
"""The message before it is not the expected one: somebody else wrote meanwhile."""
IN_USE = 10058
"""There is a stream of that name, with another configuration."""
