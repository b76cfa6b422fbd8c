"""The rules of the house that a machine can keep. One test a rule; each lists everything that breaks it."""
