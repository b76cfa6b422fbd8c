"""The source that reads topics of Kafka."""
