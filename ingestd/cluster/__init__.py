"""The spool on JetStream: edges that put events into its streams, workers that own shares of them."""
