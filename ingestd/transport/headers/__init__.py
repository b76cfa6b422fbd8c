"""Response headers that say when to send again."""
