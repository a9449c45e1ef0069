import AlertDispatcher
import Console
import Foundation
import WorkerProtocol

/// Which keys of the configuration count at once when it is read again, and which at the next start only.
enum ConfigurationKeys {
    enum Effect: Equatable { case live, atStart }

    /// Sections and their keys. A section stands for itself too: it, or elements of a list, may come and go.
    private static let live: [String: [String]] = [
        "node": ["further_ae_titles", "log_level"],
        "dicom": [
            "allowed_networks", "allowed_calling_ae_titles", "most_associations", "most_associations_per_peer",
            "admission_queue_seconds", "request_deadline_seconds", "idle_timeout_seconds",
            "association_deadline_seconds", "stop_deadline_seconds", "warm_workers", "max_pdu_bytes",
            "most_object_mebibytes", "sequence_depth", "extra_sop_classes",
        ],
        "disk": ["reject_associations_below_mebibytes", "refuse_objects_below_mebibytes"],
        "completion": ["grace_seconds", "quiet_seconds", "deadline_seconds"],
        "selection": selection,
        "selection.institutions": ["name"] + selection,
        "retention": ["keep_days", "least_keep_hours"],
        "delivery": ["first_retry_seconds", "most_retry_seconds", "most_age_hours"],
        "alerts": ["most_study_age_hours"],
        "console": ["host_names", "session_minutes", "most_session_minutes"],
        "console.users": ["name", "role", "password_hash"],
        "console.tokens": ["name", "role", "sha256"],
        "console.lock_out": ["tries", "first_seconds", "most_seconds"],
        "peers": [
            "name", "ae_title", "host", "port", "commitment", "commitment_timeout_seconds", "fallback",
            "fallback_after_seconds", "calling_ae_title", "tls", "verify_host", "certificate", "key", "ca",
        ],
        "webhooks": ["name", "url", "secret_file", "ca", "include_patient", "timeout_seconds"],
        "operator_alerts": [
            "check_seconds", "no_result_minutes", "destination_minutes", "disk_below_mebibytes", "crashes",
            "crash_window_minutes", "certificate_days", "webhooks",
        ],
        "operator_alerts.mail": ["to", "from", "sendmail", "timeout_seconds"],
        "hl7": [
            "name", "host", "port", "sending_application", "sending_facility", "receiving_application",
            "receiving_facility", "acknowledgement", "study_uid_type", "connect_timeout_seconds",
            "acknowledgement_timeout_seconds", "tls", "verify_host", "certificate", "key", "ca",
        ],
        "routes": [
            "name", "calling_ae_titles", "called_ae_titles", "institutions", "destinations", "sr_class", "summary",
            "key_objects", "counts_from", "retrieve_from", "threshold", "alerts", "urgency",
        ],
    ]

    private static let selection = [
        "preferred_thickness_millimetres", "least_slices", "least_coverage_millimetres", "preferred_descriptions",
        "refused_descriptions", "soft_kernels", "bone_kernels",
    ]

    /// What names the node to its peers and its files, what is bound or opened once, and the model. Why each is here
    /// says docs/ARCHITECTURE.md.
    private static let atStart: [String: [String]] = [
        "node": ["ae_title", "data_directory", "run_directory", "model", "inference_threads"],
        "dicom": ["port", "bind"],
        "tls": ["port", "certificate", "key", "ca", "client_certificates"],
        "audit": ["enabled", "file_mebibytes", "keep_files", "enterprise_site"],
        "console": [
            "host", "port", "behind_proxy", "most_connections", "most_connections_per_address", "idle_seconds",
        ],
        "console.tls": ["certificate", "key"],
    ]

    static let all: [String: Effect] = {
        var all: [String: Effect] = [:]
        for (table, effect) in [(live, Effect.live), (atStart, .atStart)] {
            for (section, keys) in table {
                for key in keys { all["\(section).\(key)"] = effect }
                // Sections with keys of both kinds are always there.
                if live[section] == nil || atStart[section] == nil { all[section] = effect }
            }
        }
        return all
    }()

    /// - Parameter path: "peers[pacs].port", or a section.
    /// - Returns: of what is not known, what does no harm.
    static func effect(of path: String) -> Effect {
        all[path.replacing(/\[[^\]]*\]/, with: "")] ?? .atStart
    }
}

// What only a start changes, as `ConfigurationKeys` has it; a test compares.

extension NodeConfiguration.Node {
    func keeping(_ running: Self?) -> Self {
        guard var kept = running else { return self }
        (kept.furtherAETitles, kept.logLevel) = (furtherAETitles, logLevel)
        return kept
    }
}

extension NodeConfiguration.DICOMPort {
    func keeping(_ running: Self?) -> Self {
        guard let running else { return self }
        var kept = self
        (kept.port, kept.bind) = (running.port, running.bind)
        return kept
    }
}

extension NodeConfiguration.Audit {
    func keeping(_ running: Self?) -> Self { running ?? self }
}

extension ConsoleSettings {
    func keeping(_ running: Self?) -> Self {
        guard var kept = running else { return self }
        (kept.hostNames, kept.users, kept.tokens, kept.lockOut) = (hostNames, users, tokens, lockOut)
        (kept.sessionMinutes, kept.mostSessionMinutes) = (sessionMinutes, mostSessionMinutes)
        return kept
    }
}
