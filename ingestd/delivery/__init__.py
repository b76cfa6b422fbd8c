"""One sink at run time: lane, flow control, retries, retry worker, status poller."""
