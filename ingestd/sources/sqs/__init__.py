"""The source that reads a queue of Amazon SQS."""
