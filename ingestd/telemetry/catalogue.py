"""The metrics catalogue: every metric there is, with its meaning. docs/reference/ is made of it."""

from typing import Literal

MetricKind = Literal["counter", "gauge", "histogram"]

PIPELINE_CATALOGUE: dict[str, tuple[MetricKind, str]] = {
    "ingestd_accepted_events_total": ("counter", "Events accepted from sources"),
    "ingestd_events_total": ("counter", "Resolved events, by outcome"),
    "ingestd_dead_letters_total": ("counter", "Events that became dead letters, by reason"),
    "ingestd_in_flight_events": ("gauge", "Accepted events that are not resolved yet"),
    "ingestd_oldest_undelivered_seconds": ("gauge", "Age of the oldest event that is not resolved yet"),
    "ingestd_retried_delivered_total": ("counter", "Dead letters that were delivered by a retry"),
    "ingestd_retried_duplicate_total": (
        "counter",
        "Dead letters that were not sent again, because their events were accepted again",
    ),
    "ingestd_retried_failed_total": ("counter", "Dead letters that were sent again and failed"),
    "ingestd_unmatched_item_errors_total": ("counter", "Errors in answers that no event could be found for"),
    "ingestd_attempt_seconds": ("histogram", "Duration of attempts, by sink and class of answer"),
    "ingestd_batch_events": ("histogram", "Events in a batch at its first send"),
    "ingestd_batch_bytes": ("histogram", "Bytes of a batch's body at its first send"),
    "ingestd_window_keys": ("gauge", "Keys in the deduplication window, by state"),
    "ingestd_events_without_dedup_key_total": (
        "counter",
        "Valid events that have nothing at the paths of dedup_key",
    ),
    "ingestd_dead_letters": ("gauge", "Letters in the dead-letter store, by state"),
    "ingestd_token_requests_total": ("counter", "Requests for an access token, by result"),
}
"""Name -> (kind, help), of what every pipeline has."""

SOURCE_CATALOGUE: dict[str, tuple[MetricKind, str]] = {
    "ingestd_source_connected": (
        "gauge",
        "1 while a source is connected to its broker, or can see its files",
    ),
    "ingestd_source_messages_total": (
        "counter",
        "Messages that a broker gave, or events of files, by source",
    ),
    "ingestd_source_redelivered_total": ("counter", "Messages that a broker gave again, by source"),
    "ingestd_source_lag_messages": ("gauge", "Messages that are not settled, on their way or not yet given"),
    "ingestd_source_lag_seconds": ("gauge", "Age of the oldest message that was taken and is not settled"),
    "ingestd_source_gaps_total": (
        "counter",
        "Gaps: times without a connection, whose events cannot be read again",
    ),
    "ingestd_source_gap_seconds_total": ("counter", "Seconds of all gaps together"),
    "ingestd_source_stranded_messages": (
        "gauge",
        "Messages that nobody will be given: of a work queue (NATS), or deleted before they are read (Kafka)",
    ),
    "ingestd_source_lost_messages_total": (
        "counter",
        "Offsets or sequences that were passed over, because the topic or stream had deleted them, by source",
    ),
    "ingestd_source_partitions": (
        "gauge",
        "Partitions of topics that this process owns in its consumer group, by source",
    ),
    "ingestd_source_unnamed_batches_total": (
        "counter",
        "Batches that were sent though the next owner of their partition would not find them with the offset,"
        " by source",
    ),
    "ingestd_source_lag_bytes": ("gauge", "Bytes of files, as they are on disk, that were not read yet"),
    "ingestd_source_files": ("gauge", "Files that are known, by source"),
    "ingestd_source_open_files": ("gauge", "Files that are held open, by source"),
    "ingestd_source_rotated_files": (
        "gauge",
        "Files that were renamed away or deleted and are still followed",
    ),
    "ingestd_source_unfinished_files": (
        "gauge",
        "Files that end in the middle of an event, and are left alone",
    ),
    "ingestd_source_refused_files": ("gauge", "Files that cannot be read: /v1/status says why"),
    "ingestd_source_files_done_total": ("counter", "Files that were read to their end, settled and let go"),
    "ingestd_source_truncated_files_total": ("counter", "Times that a file was truncated, or written again"),
    "ingestd_source_lost_bytes_total": ("counter", "Bytes of files that were gone before they were read"),
}
"""Of each source that is read: at a broker, or of files."""

SINK_CATALOGUE: dict[str, tuple[MetricKind, str]] = {
    "ingestd_sink_events_total": ("counter", "Events resolved at a sink, by outcome"),
    "ingestd_routed_events_total": ("counter", "Events that were routed to a sink"),
    "ingestd_requests_total": ("counter", "Requests sent, retries included, by sink"),
    "ingestd_retries_total": ("counter", "Requests that repeated an earlier one, by sink"),
    "ingestd_sent_bytes_total": ("counter", "Bytes of request bodies sent, retries included, by sink"),
    "ingestd_sink_in_flight_events": (
        "gauge",
        "Events routed to a sink and not resolved there yet",
    ),
    "ingestd_sink_backlog_bytes": ("gauge", "Bytes of the chunks of the spool that wait for a sink"),
    "ingestd_sink_parked": ("gauge", "1 while a sink is parked: its backlog takes no room from the others"),
    "ingestd_sink_behind_chunks": ("gauge", "Chunks of the spool that a sink has not read yet"),
    "ingestd_active_requests": ("gauge", "Requests that are out now, by sink"),
    "ingestd_concurrency_limit": ("gauge", "Requests that may be out at once, by what the API answers"),
    "ingestd_queued_batches": ("gauge", "Batches in the lane, by whether they are new or wait for a retry"),
    "ingestd_held_events": ("gauge", "Events that wait for an earlier one of their order key"),
    "ingestd_events_without_order_key_total": (
        "counter",
        "Events with nothing at the paths of order_by",
    ),
    "ingestd_circuit_closed": ("gauge", "1 while the lane sends freely, 0 while it only probes"),
    "ingestd_confirming_events": (
        "gauge",
        "Events that an API accepted and has not confirmed yet",
    ),
    "ingestd_confirmations_total": ("counter", "What an API said of events it had accepted, by outcome"),
    "ingestd_lake_waiting_events": ("gauge", "Events that wait for their file"),
    "ingestd_lake_waiting_bytes": ("gauge", "Bytes of events that wait for their file"),
    "ingestd_lake_oldest_seconds": ("gauge", "Age of the oldest event that waits for its file"),
    "ingestd_lake_files_total": ("counter", "Files written"),
    "ingestd_lake_failures_total": ("counter", "Attempts to write a file that failed"),
    "ingestd_lake_skipped_events_total": ("counter", "Events missing in the lake: max_backlog was reached"),
}
"""Of each sink: ``sink_metrics.py``."""

CLUSTER_CATALOGUE: dict[str, tuple[MetricKind, str]] = {
    "ingestd_edge_events_total": ("counter", "Events that an edge answered for, by outcome"),
    "ingestd_edge_chunks_total": ("counter", "Chunks that an edge has stored"),
    "ingestd_nats_connected": ("gauge", "1 while an edge or a worker is connected to the spool on JetStream"),
    "ingestd_shares_owned": ("gauge", "Shares of a sink's events that this worker owns"),
    "ingestd_share_events_total": (
        "counter",
        "Events that are resolved, by sink, partition and outcome, since the spool was made; of owned shares",
    ),
    "ingestd_share_in_flight_events": ("gauge", "Events of a share that were read and are not resolved"),
    "ingestd_share_lag_chunks": ("gauge", "Chunks of a share that its owner has not read yet"),
    "ingestd_share_oldest_seconds": ("gauge", "Age of the oldest chunk of a share that was read"),
    "ingestd_workers": ("gauge", "Workers that this one hears, itself included"),
}
"""Of edges and workers of a spool on JetStream: ``cluster_metrics.py``."""

SERVICE_CATALOGUE: dict[str, tuple[MetricKind, str]] = {
    "ingestd_http_requests_total": ("counter", "Requests of producers answered, by status code"),
    "ingestd_http_connections": ("gauge", "Connections of producers that are open"),
    "ingestd_http_refused_connections_total": ("counter", "Connections refused because too many were open"),
    "ingestd_intake_deferred_events_total": (
        "counter",
        "Events that producers were asked to send again, by status code",
    ),
    "ingestd_producer_events_total": ("counter", "Events accepted, by configured producer"),
    "ingestd_spool_bytes": ("gauge", "Bytes of accepted events that wait on disk"),
    "ingestd_spool_max_bytes": ("gauge", "Bytes at which producers get 429"),
    "ingestd_spool_events": ("gauge", "Accepted events that wait on disk"),
    "ingestd_spool_chunks": ("gauge", "Chunks of accepted events on disk"),
    "ingestd_spool_quarantined_chunks": ("gauge", "Chunks that were found damaged and set aside"),
    "ingestd_damaged_state_files": (
        "gauge",
        "State files that were damaged, made again of what could be read, and kept beside the new one",
    ),
    "ingestd_disk_full": ("gauge", "1 while the disk takes no more"),
    "ingestd_state_file_bytes": ("gauge", "Size of the state database, by file"),
    "ingestd_commit_seconds": ("histogram", "Duration of group commits to disk"),
    "ingestd_config_reloads_total": ("counter", "Times the configuration was read again, by result"),
    "ingestd_config_last_reload_success_timestamp_seconds": ("gauge", "Time of the last reload that worked"),
    "ingestd_config_last_reload_successful": ("gauge", "1 if the last configuration that was read is in use"),
    "ingestd_loop_lag_seconds": ("gauge", "Worst delay of the event loop in the last 10 s"),
    "ingestd_loop_blocked_total": ("counter", "Times the event loop stood still for longer than allowed"),
    "ingestd_ready": ("gauge", "1 while producers are welcome, as /readyz says"),
    "ingestd_spans_total": ("counter", "Spans of traces that ended, by whether they arrived"),
    "ingestd_build_info": ("gauge", "1, with the version that runs"),
}
"""Of what only the long-running service has: ``metrics.ServiceMetrics``."""

CATALOGUE = PIPELINE_CATALOGUE | SINK_CATALOGUE | SOURCE_CATALOGUE | CLUSTER_CATALOGUE | SERVICE_CATALOGUE


def help_of(name: str) -> str:
    return CATALOGUE[name][1]
