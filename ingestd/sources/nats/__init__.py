"""The source that reads from a stream of NATS JetStream."""
