"""How a batch gets out: lane, limiter, backoff, retry worker."""
