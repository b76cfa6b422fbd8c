"""What became of every event, written down once: ledger, keys, journal, receipts, letters."""
