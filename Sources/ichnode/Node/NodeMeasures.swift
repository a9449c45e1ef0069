import Foundation
import ICHModel
import Ledger
import Metrics

/// What stays the same while the node runs, for whoever compares nodes.
enum NodeMeasures {
    static func record(_ package: ModelPackage, startedAt: Date) {
        Gauge(label: "ichnode_build_info", dimensions: [("version", NodeVersion.string)]).record(1)
        Gauge(label: "ichnode_model_info", dimensions: [("name", package.name), ("version", package.version)]).record(1)
        Gauge(label: "ichnode_start_timestamp_seconds").record(startedAt.timeIntervalSince1970)
    }
}
