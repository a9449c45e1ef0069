import AlertDispatcher
import Console
import Foundation
import ICHModel
import Logging

extension ModelFacts {
    /// Beside model.json: what the makers of a package say of its limits. It computes nothing: no part of the digest.
    static let limitsFile = "limits.json"

    init(_ package: ModelPackage, routes: [AlertDispatcher.Route], logger: Logger) {
        let windows = package.windows.map { "\(Self.plain($0.level))/\(Self.plain($0.width))" }.joined(separator: ", ")
        self.init(
            name: package.name, version: package.version, created: package.created, description: package.description,
            digest: package.modelDigest, directory: package.directory, classes: package.classes,
            sliceThreshold: package.sliceThreshold,
            input: "\(package.inputSize) × \(package.inputSize) pixels, slabs of "
                + "\(Self.plain(package.slabThicknessMillimetres)) mm"
                + (windows.isEmpty ? "" : ", windows \(windows) (level/width, HU)"),
            operatingPoints: package.thresholds.sorted { $0.value < $1.value }
                .map { OperatingPoint(name: $0.name, threshold: $0.value) },
            routes: routes.compactMap { route in
                do {
                    let value = try package.operatingPoint(route.threshold).value
                    return Route(name: route.name, threshold: route.threshold, value: value)
                } catch {
                    // The node does not start with such a route.
                    return nil
                }
            },
            training: Self.members(package.training).compactMap { key, value in
                Self.text(value).map { (Self.label(key), $0) }
            },
            measured: Self.members(package.figures).compactMap { Self.measured($0.key, $0.value) },
            limits: Self.limits(in: package.directory, logger))
    }

    private static func limits(in folder: String, _ logger: Logger) -> Limits? {
        let path = folder + "/" + limitsFile
        guard let bytes = FileManager.default.contents(atPath: path) else { return nil }
        do { return try JSONDecoder().decode(Limits.self, from: bytes) } catch {
            logger.warning("limits of the model cannot be read", metadata: ["file": "\(path)", "error": "\(error)"])
            return nil
        }
    }

    // MARK: Parts of the manifest that are only for people

    private static let first = ["study_auc", "slice_auc", "sensitivity", "specificity", "ppv", "all", "studies"]

    private static func members(_ value: JSONValue?) -> [(key: String, value: JSONValue)] {
        guard case .object(let members)? = value else { return [] }
        func rank(_ key: String) -> Int { first.firstIndex(of: key) ?? first.count }
        return members.sorted { (rank($0.key), $0.key) < (rank($1.key), $1.key) }
    }

    /// What has a number of studies, and figures on them.
    private static func measured(_ name: String, _ value: JSONValue) -> Measured? {
        let members = Self.members(value)
        guard case .number(let studies)? = members.first(where: { $0.key == "studies" })?.value else { return nil }
        func inner(_ key: String) -> [(key: String, value: JSONValue)] {
            self.members(members.first { $0.key == key }?.value)
        }
        var positive: Int?
        if case .number(let count)? = members.first(where: { $0.key == "positive_studies" })?.value {
            positive = Int(count)
        }
        let counts = ["studies", "positive_studies", "slices"]
        let plain = estimates(members.filter { !counts.contains($0.key) })
        let grouped = ["slices_at_threshold", "calibration"].flatMap { key in
            estimates(inner(key)).map { ("\(label(key)): \($0.name)", $0.estimate) }
        }
        return Measured(
            set: label(name), studies: Int(studies), positiveStudies: positive, figures: plain + grouped,
            points: Dictionary(
                inner("at").map { ($0.key, estimates(Self.members($0.value))) }, uniquingKeysWith: { first, _ in first }
            ),
            classes: inner("subtypes").map { ($0.key, estimates(Self.members($0.value))) })
    }

    private static func estimates(
        _ members: [(key: String, value: JSONValue)]
    ) -> [(name: String, estimate: Estimate)] {
        members.compactMap { key, value in estimate(value).map { (label(key), $0) } }
    }

    private static func estimate(_ value: JSONValue) -> Estimate? {
        if case .number(let number) = value { return Estimate(value: number) }
        guard case .object(let members) = value, case .number(let middle)? = members["value"] else { return nil }
        var estimate = Estimate(value: middle)
        if case .list(let ends)? = members["interval"], ends.count == 2, case .number(let low) = ends[0],
            case .number(let high) = ends[1]
        {
            (estimate.low, estimate.high) = (low, high)
        }
        if case .number(let count)? = members["n"] { estimate.count = Int(count) }
        return estimate
    }

    private static func text(_ value: JSONValue) -> String? {
        switch value {
        case .null, .object: nil
        case .bool(let bool): bool ? "yes" : "no"
        case .number(let number): plain(number)
        case .text(let text): text
        case .list(let list): list.compactMap(text).joined(separator: ", ")
        }
    }

    /// "ppv_at_prevalence_0.06" is "PPV at prevalence 0.06".
    private static func label(_ key: String) -> String {
        key.split(separator: "_").map { ["auc", "ppv", "npv"].contains($0) ? $0.uppercased() : String($0) }
            .joined(separator: " ")
    }

    private static func plain(_ number: Double) -> String {
        Int(exactly: number).map { "\($0)" } ?? String(format: "%.4g", number)
    }
}
