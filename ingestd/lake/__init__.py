"""From the outbox to whole files of a data lake, at its own pace."""
