/// One measure of the node.
struct MetricDescription: Sendable {
    enum Kind: String, Sendable { case counter, gauge, histogram }

    var name: String
    var kind: Kind
    /// Names of its labels; their values are few, and never of a patient.
    var labels: [String]
    /// One sentence, as `# HELP` says it.
    var help: String
    /// Upper bounds of a histogram.
    var buckets: [Double]
}

/// All that `/metrics` can hold. docs/METRICS.md is this table.
enum MetricsTable {
    static let all: [MetricDescription] = receiving + analysing + delivering + node

    static func description(_ name: String) -> MetricDescription? { byName[name] }

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// What a process does by itself, seconds.
    static let quick = [0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300]
    /// What waits for scanners and peers, seconds: to the deadline of a study and beyond.
    private static let slow = [1.0, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600, 1800, 3600]

    private static func counter(_ name: String, _ labels: String..., help: String) -> MetricDescription {
        MetricDescription(name: name, kind: .counter, labels: labels, help: help, buckets: [])
    }

    private static func gauge(_ name: String, _ labels: String..., help: String) -> MetricDescription {
        MetricDescription(name: name, kind: .gauge, labels: labels, help: help, buckets: [])
    }

    private static func histogram(
        _ name: String, _ labels: String..., help: String, _ buckets: [Double] = quick
    ) -> MetricDescription {
        MetricDescription(name: name, kind: .histogram, labels: labels, help: help, buckets: buckets)
    }

    private static let receiving = [
        counter("ichnode_associations_total", help: "Associations that were admitted."),
        counter(
            "ichnode_associations_refused_total", help: "Connections and association requests that were refused."),
        counter("ichnode_tls_handshakes_failed_total", help: "TLS handshakes that failed."),
        histogram("ichnode_association_seconds", help: "From admission of an association to its end.", slow),
        counter("ichnode_instances_stored_total", help: "Objects made durable and acknowledged."),
        counter("ichnode_instances_refused_total", help: "Objects refused with a status."),
        histogram(
            "ichnode_instance_receive_seconds",
            help: "From the C-STORE command of an object to its being durable."),
        gauge("ichnode_disk_free_bytes", help: "Free space on the file system of the spool."),
        gauge(
            "ichnode_disk_watermark_bytes", "refuses",
            help: "Free space below which associations that store, or objects, are refused."),
        counter("ichnode_studies_purged_total", help: "Studies of which retention removed the images."),
    ]

    private static let analysing = [
        gauge("ichnode_studies", "state", help: "Studies in the ledger by where they stand."),
        gauge(
            "ichnode_studies_oldest_open_seconds",
            help: "Age of the first image of the oldest study without an outcome; 0 without one."),
        counter("ichnode_studies_total", "outcome", help: "Analyses that were recorded, by outcome."),
        histogram(
            "ichnode_time_to_complete_seconds",
            help: "From the last image of a study to the decision that it is complete.", slow),
        histogram("ichnode_decode_seconds", help: "Decoding a batch of at most 32 frames."),
        histogram("ichnode_encode_seconds", help: "One call of the encoder network."),
        histogram("ichnode_score_seconds", help: "One call of the sequence head."),
        histogram(
            "ichnode_time_to_report_seconds", help: "From the last image of a study to its composed results.", slow),
        histogram(
            "ichnode_time_to_flag_seconds", "outcome",
            help: "From the last image that an analysis saw to the acceptance of its report by the first destination.",
            slow),
        counter(
            "ichnode_findings_not_kept_total",
            help: "Findings that were reported, but whose images cannot be looked at in the console."),
        gauge("ichnode_model_info", "name", "version", help: "The model package in use; always 1."),
    ]

    private static let delivering = [
        counter(
            "ichnode_deliveries_total", "outcome",
            help: "Attempts of deliveries: delivered, failed (to be repeated), dead (given up)."),
        histogram("ichnode_delivery_seconds", "destination", help: "One attempt of a delivery, answered or not."),
        gauge("ichnode_outbox_pending", help: "Deliveries that wait for acceptance."),
        gauge("ichnode_outbox_uncommitted", help: "Deliveries accepted and not yet committed."),
        gauge(
            "ichnode_outbox_owed", "destination",
            help: "Deliveries that a destination has not taken, or does not answer for."),
        gauge("ichnode_outbox_oldest_seconds", "destination", help: "Age of the oldest of these."),
        gauge("ichnode_outbox_given_up", "destination", help: "Deliveries given up that nobody has decided about."),
        counter(
            "ichnode_commitments_failed_total",
            help: "Commitment requests refused, objects not committed, reports that did not come."),
    ]

    private static let node = [
        gauge("ichnode_ready", help: "1 when the node serves, 0 before."),
        gauge("ichnode_ledger_readable", help: "1 when the ledger answered the last question of these metrics."),
        gauge("ichnode_part_still_seconds", "part", help: "For how long a part of the node has shown no sign of life."),
        gauge("ichnode_operator_alerts_active", "kind", help: "Operators' alerts that hold now."),
        counter("ichnode_worker_crashes_total", "verb", help: "Child processes that died, by what they were for."),
        counter("ichnode_console_sign_ins_total", "outcome", help: "Attempts to sign in at the console."),
        gauge(
            "ichnode_tls_certificate_expires_timestamp_seconds",
            help: "When the first of the node's certificates expires, seconds since 1970."),
        counter("ichnode_audit_messages_total", help: "Messages written to the audit log."),
        counter("ichnode_audit_messages_lost_total", help: "Audit messages given up: the log could not be written."),
        counter("ichnode_audit_write_failures_total", help: "Attempts to write the audit log that failed."),
        gauge("ichnode_build_info", "version", help: "The version that runs; always 1."),
        gauge(
            "ichnode_configuration_reload_successful",
            help: "1 when the configuration file counted when it was read last, 0 when it was refused."),
        gauge(
            "ichnode_configuration_success_timestamp_seconds",
            help: "When the configuration file was read last and counted, seconds since 1970."),
        gauge("ichnode_start_timestamp_seconds", help: "When the node was started, seconds since 1970."),
    ]

    /// docs/METRICS.md.
    static var document: String {
        let rows = all.map { metric in
            let labels = metric.labels.map { "`\($0)`" }.joined(separator: ", ")
            return "| `\(metric.name)` | \(metric.kind.rawValue) | \(labels) | \(metric.help) |\n"
        }
        return """
            # Metrics

            What `/metrics` holds, in Prometheus' text format. Rules for alerts are in
            [packaging/prometheus](../packaging/prometheus/ichnode.rules.yml), a dashboard in
            [packaging/grafana](../packaging/grafana/ichnode.json); [OPERATIONS.md](OPERATIONS.md) says how to use them.
            No label holds anything of a patient or a study. Durations are in seconds; counters start at 0 with the
            node. What is by destination or state is read from the ledger when it is asked for, at most once in five
            seconds; a destination that is owed nothing is left out.

            | metric | kind | labels | |
            |---|---|---|---|
            \(rows.joined())
            """
    }
}
