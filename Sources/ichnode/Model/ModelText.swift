import Foundation
import ICHModel

/// A model package as text and as JSON.
enum ModelText {
    static func json(_ package: ModelPackage) throws -> String {
        struct Description: Encodable {
            struct Calibration: Encodable {
                let study: ModelPackage.Calibration
                let slice: ModelPackage.Calibration
            }
            let name, version, created, description, digest, directory: String
            let classes: [String]
            let inputSize: Int
            let slabThicknessMm: Double
            let windows: [ModelPackage.Window]
            let embeddingSize: Int
            let mapSize: Int
            let calibration: Calibration
            let thresholds: [ModelPackage.Threshold]
            let sliceThreshold: Double
            let heatmapMethod: String
            let hasSelfTest: Bool
            let training, figures: JSONValue?
        }
        return try JSONText.of(
            Description(
                name: package.name, version: package.version, created: package.created,
                description: package.description, digest: package.modelDigest, directory: package.directory,
                classes: package.classes, inputSize: package.inputSize,
                slabThicknessMm: package.slabThicknessMillimetres, windows: package.windows,
                embeddingSize: package.embeddingSize, mapSize: package.mapSize,
                calibration: .init(study: package.studyCalibration, slice: package.sliceCalibration),
                thresholds: package.thresholds, sliceThreshold: package.sliceThreshold,
                heatmapMethod: package.heatmapMethod, hasSelfTest: package.selfTest != nil,
                training: package.training, figures: package.figures))
    }

    static func text(_ package: ModelPackage) -> String {
        let windows = package.windows.map { "\(plain($0.level))/\(plain($0.width))" }.joined(separator: ", ")
        let calibration = [("study", package.studyCalibration), ("slice", package.sliceCalibration)].map {
            String(format: "%@ sigmoid(%.4f logit %+.4f)", $0.0, $0.1.a, $0.1.b)
        }
        let thresholds = package.thresholds.map { String(format: "  %@  %.4f", $0.name, $0.value) }
        var lines = [
            "\(package.name) \(package.version)", package.description, "",
            "digest          \(package.modelDigest)",
            "created         \(package.created)",
            "folder          \(package.directory)",
            "classes         \(package.classes.joined(separator: ", "))",
            "input           \(package.inputSize)×\(package.inputSize) pixels, slabs of "
                + "\(plain(package.slabThicknessMillimetres)) mm",
            "windows         \(windows.isEmpty ? "not stated" : "\(windows) (level/width, HU)")",
            "embedding       \(package.embeddingSize); lesion map \(package.mapSize)×\(package.mapSize), "
                + package.heatmapMethod,
            "calibration     \(calibration.joined(separator: ", "))",
            "self-test       \(package.selfTest == nil ? "none in this package" : "yes: ichnode model verify")",
            "", "Thresholds of the study probability",
        ]
        lines += thresholds
        lines.append(String(format: "  slices are flagged from %.4f", package.sliceThreshold))
        lines += section("Trained on", package.training) + section("Figures", package.figures)
        return lines.joined(separator: "\n")
    }

    // MARK: Parts of the manifest that are only for people

    private static func section(_ title: String, _ value: JSONValue?) -> [String] {
        guard case .object(let members)? = value, !members.isEmpty else { return ["", "\(title): not stated"] }
        return ["", title] + render(members, indent: 1)
    }

    /// Counts first, so that every figure stands below its n.
    private static func render(_ members: [String: JSONValue], indent: Int) -> [String] {
        let ordered = members.sorted { (rank($0), $0.key) < (rank($1), $1.key) }
        let margin = String(repeating: "  ", count: indent)
        return ordered.flatMap { key, value -> [String] in
            let name = key.replacingOccurrences(of: "_", with: " ")
            if let brief = brief(value) { return ["\(margin)\(name): \(brief)"] }
            switch value {
            case .object(let inner): return ["\(margin)\(name)"] + render(inner, indent: indent + 1)
            case .list(let list):
                return ["\(margin)\(name)"]
                    + list.flatMap { item -> [String] in
                        if let brief = brief(item) { return ["\(margin)  - \(brief)"] }
                        guard case .object(let inner) = item else { return [] }
                        return ["\(margin)  -"] + render(inner, indent: indent + 2)
                    }
            default: return []
            }
        }
    }

    private static let counts = ["n", "patients", "studies", "positive_studies", "slices"]

    private static func rank(_ member: (key: String, value: JSONValue)) -> Int {
        if let place = counts.firstIndex(of: member.key) { return place }
        return counts.count + (brief(member.value) == nil ? 1 : 0)
    }

    /// What fits on a line: a scalar, a short list of scalars, or a value with its interval.
    private static func brief(_ value: JSONValue) -> String? {
        switch value {
        case .null: return "not stated"
        case .bool(let bool): return bool ? "yes" : "no"
        case .number(let number): return plain(number)
        case .text(let text): return text
        case .list(let list):
            let parts = list.map(brief)
            guard list.count <= 12, !parts.contains(nil) else { return nil }
            return parts.compactMap { $0 }.joined(separator: ", ")
        case .object(let members):
            guard case .number(let middle)? = members["value"], case .list(let ends)? = members["interval"],
                ends.count == 2, case .number(let low) = ends[0], case .number(let high) = ends[1]
            else { return nil }
            let others = members.filter { $0.key != "value" && $0.key != "interval" }.sorted { $0.key < $1.key }
                .compactMap { key, value in
                    brief(value).map { "\(key.replacingOccurrences(of: "_", with: " ")) \($0)" }
                }
            let interval = "\(plain(middle)) (95 % interval \(plain(low))–\(plain(high)))"
            return ([interval] + others).joined(separator: ", ")
        }
    }

    /// Without needless digits.
    private static func plain(_ number: Double) -> String {
        if let whole = Int(exactly: number) { return String(whole) }
        return String(format: abs(number) < 0.001 ? "%.2g" : "%.4g", number)
    }
}
