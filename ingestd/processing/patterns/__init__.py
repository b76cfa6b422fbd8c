"""Event patterns of EventBridge: parse, match, explain."""
