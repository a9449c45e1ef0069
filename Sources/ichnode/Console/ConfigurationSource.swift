import Console
import Foundation
import WorkerProtocol
import Yams

/// Where the configuration that runs comes from, and what it says, without secrets: it is read once, and what must not
/// be shown is not kept.
struct ConfigurationSource: Sendable {
    /// A configuration is some kilobytes.
    private static let mostBytes = 4 << 20

    let file: String
    let readAt: Date
    let digest: String
    let sections: [ConfigurationFacts.Section]

    /// - Parameters:
    ///   - problems: asked for all keys.
    ///   - options: of the command line, by the key of the section `node` that they stand for.
    init(
        file: String, text: String, _ problems: ConfigurationProblems, options: [String: String] = [:],
        readAt: Date = Date()
    ) {
        self.file = file
        self.readAt = readAt
        digest = SHA256Digest.hex(of: [text])
        let help = ConfigurationHelp(for: problems.asked)
        var sections: [ConfigurationFacts.Section] = []
        for asked in problems.asked {
            if sections.last?.path != asked.section, !sections.contains(where: { $0.path == asked.section }) {
                sections.append(.init(path: asked.section, settings: []))
            }
            let index = sections.firstIndex { $0.path == asked.section } ?? 0
            sections[index].settings.append(Self.setting(asked, help, options))
        }
        self.sections = sections + problems.absent.map { .init(path: $0, settings: []) }
    }

    private static func setting(
        _ asked: AskedKey, _ help: ConfigurationHelp, _ options: [String: String]
    ) -> ConfigurationFacts.Setting {
        var setting = ConfigurationFacts.Setting(
            key: asked.key, value: asked.node.map(text) ?? asked.fallback, line: asked.node.map { $0.mark?.line ?? 1 },
            defaultValue: asked.fallback.flatMap { $0.isEmpty ? nil : $0 }, help: help[asked.section, asked.key])
        if let value = setting.value, let fallback = setting.defaultValue, let number = Double(value),
            number == Double(fallback)
        {
            setting.value = fallback
        }
        if asked.section == "node", let option = options[asked.key] {
            setting.value = option
            setting.option = "--" + asked.key.replacing("_", with: "-")
        }
        setting.value = ConfigurationSecrets.shown(setting.value, of: asked.key)
        if setting.value?.isEmpty == true { setting.value = nil }
        return setting
    }

    private static func text(_ node: Yams.Node) -> String {
        switch node {
        case .scalar(let scalar): scalar.string
        case .sequence(let sequence): "[\(sequence.map(text).joined(separator: ", "))]"
        // Asked for as a section, or not at all: what is in it is not known to be no secret.
        default: ConfigurationFacts.Setting.hidden
        }
    }

    func facts() -> ConfigurationFacts {
        .init(file: file, readAt: readAt, digest: digest, standing: standing, sections: sections)
    }

    private var standing: ConfigurationFacts.FileStanding {
        do {
            let attributes = try FileManager.default.attributesOfItem(atPath: file)
            guard (attributes[.size] as? NSNumber)?.intValue ?? 0 <= Self.mostBytes else { return .changed }
            let text = try String(contentsOfFile: file, encoding: .utf8)
            return SHA256Digest.hex(of: [text]) == digest ? .unchanged : .changed
        } catch let error as NSError { return .unreadable(error.localizedDescription) }
    }
}

/// What of a configuration is not for a page. A key is judged by its name, so that one that comes later is hidden too.
enum ConfigurationSecrets {
    private static let words = [
        "password", "passphrase", "token", "hash", "sha256", "credential", "authorization",
    ]

    static func isHidden(_ key: String) -> Bool {
        let key = key.lowercased()
        // The path of a secret's file is none.
        return words.contains { key.contains($0) } || key.contains("secret") && !key.hasSuffix("_file")
    }

    /// - Returns: of a URL scheme, host and port: path, query and user are how some receivers know who may send.
    static func shown(_ value: String?, of key: String) -> String? {
        guard let value else { return nil }
        guard !isHidden(key) else { return ConfigurationFacts.Setting.hidden }
        guard value.contains("://") else { return value }
        guard let parts = URLComponents(string: value), let scheme = parts.scheme, let host = parts.host else {
            return ConfigurationFacts.Setting.hidden
        }
        let isWhole = parts.user == nil && parts.query == nil && ["", "/"].contains(parts.path)
        return "\(scheme)://\(host)\(parts.port.map { ":\($0)" } ?? "")\(isWhole ? "" : "/…")"
    }
}

/// The comments of the annotated example, by key.
struct ConfigurationHelp {
    private struct Place: Hashable {
        /// "peers" of "peers[0]".
        var section: String
        var key: String
    }

    private var texts: [Place: String] = [:]

    /// - Parameter asked: tells keys from prose.
    init(for asked: [AskedKey], example: String = String(decoding: PackageResources.ichnode_yaml, as: UTF8.self)) {
        let known = Set(asked.map { Place(section: Self.first($0.section), key: $0.key) })
        var section = ""
        var comment: [String] = []
        var isFresh = true
        for line in example.split(separator: "\n", omittingEmptySubsequences: false) {
            // Optional sections and keys stand behind "# ".
            let isTop = line.first.map { $0 != " " } ?? false
            let bare = line.drop { $0 == " " }
            let plain = bare.hasPrefix("# ") ? bare.dropFirst(2) : bare
            if isTop, let name = Self.key(plain), plain.hasSuffix(":") {
                (section, comment) = (name, [])
                continue
            }
            let key = Self.key(plain.drop { " #-".contains($0) })
            if let key, known.contains(Place(section: section, key: key)) {
                texts[Place(section: section, key: key)] = comment.joined(separator: " ")
                isFresh = true
            } else if bare.hasPrefix("#") {
                // Keys one below the other share the comment above the first.
                if isFresh { comment = [] }
                isFresh = false
                comment.append(String(plain.drop { " #".contains($0) }))
            } else if key == nil || !bare.hasSuffix(":") {
                // Above a section within another it is about its keys.
                comment = []
            }
        }
    }

    subscript(section: String, key: String) -> String? {
        texts[Place(section: Self.first(section), key: key)].flatMap { $0.isEmpty ? nil : $0 }
    }

    private static func first(_ section: String) -> String { String(section.prefix { $0 != "[" && $0 != "." }) }

    /// "port" of "port: 104".
    private static func key(_ text: Substring) -> String? {
        let name = text.prefix { $0.isLowercase && $0.isASCII || $0.isNumber || $0 == "_" }
        return !name.isEmpty && text.dropFirst(name.count).first == ":" ? String(name) : nil
    }
}
