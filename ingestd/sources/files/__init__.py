"""Files, pipes and standard input: unpacked, cut into events, with positions."""
