"""One file per remote API: encode a batch into a request, interpret the answer. No I/O."""
