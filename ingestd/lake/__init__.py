"""The data lake's side of the house: from the outbox to whole files, at its own pace."""
