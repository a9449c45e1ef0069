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
    private(set) var sections: [ConfigurationFacts.Section]
    /// Of the command line, by the key of the section `node` that they stand for.
    let options: [String: String]
    /// What is in force, for comparing: by "peers[pacs].port", and of lists and sections by their own path.
    private(set) var said: [String: Said] = [:]

    /// A value: told apart by its digest, since not each may be kept, or shown.
    struct Said: Sendable, Equatable {
        var shown: String?
        var digest: String
    }

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
        self.options = options
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
        said = Self.said(problems, options)
    }

    private static func said(_ problems: ConfigurationProblems, _ options: [String: String]) -> [String: Said] {
        var raw: [String: String?] = [:]
        var lists: [String: [String]] = [:]
        // Elements of a list begin with their names.
        for asked in problems.asked where asked.key == "name" && asked.section.hasSuffix("]") {
            lists[list(asked.section), default: []].append(asked.node.map(text) ?? "")
        }
        for asked in problems.asked {
            let option = asked.section == "node" ? options[asked.key] : nil
            let value = option ?? asked.node.map(text) ?? asked.fallback
            raw["\(named(asked.section, lists)).\(asked.key)"] = value
            if !asked.section.hasSuffix("]") { raw[asked.section] = "configured" }
        }
        for (path, names) in lists { raw[path] = "[\(names.joined(separator: ", "))]" }
        for path in problems.absent { raw[path] = String?.none }
        return raw.reduce(into: [:]) { said, each in
            let key = each.key.split(separator: ".").last.map(String.init) ?? ""
            // 2.0 is 2.
            let plain = each.value.map { value in Double(value).map { "\($0)" } ?? value }
            said[each.key] = Said(
                shown: ConfigurationSecrets.shown(each.value, of: key), digest: SHA256Digest.hex(of: [plain ?? ""]))
        }
    }

    /// "peers" of "peers[0]"
    private static func list(_ section: String) -> String { String(section.prefix { $0 != "[" }) }

    /// "peers[pacs]" of "peers[0]"
    private static func named(_ section: String, _ lists: [String: [String]]) -> String {
        let list = list(section)
        guard section.hasSuffix("]"), let index = Int(section.dropFirst(list.count + 1).dropLast()),
            let names = lists[list], names.indices.contains(index)
        else { return section }
        return "\(list)[\(names[index])]"
    }

    /// As what a node that goes on runs with: what only a start changes is as it was.
    func keeping(_ held: ConfigurationSource) -> ConfigurationSource {
        var kept = self
        for (key, value) in held.said where ConfigurationKeys.effect(of: key) == .atStart { kept.said[key] = value }
        for index in sections.indices { kept.sections[index] = Self.keeping(held, sections[index]) }
        return kept
    }

    private static func keeping(
        _ held: ConfigurationSource, _ section: ConfigurationFacts.Section
    ) -> ConfigurationFacts.Section {
        guard let before = held.sections.first(where: { $0.path == section.path }) else { return section }
        var kept = section
        // The file does not have it any more, and it still counts.
        if section.settings.isEmpty, ConfigurationKeys.effect(of: section.path) == .atStart {
            kept.settings = before.settings.map { setting in
                var setting = setting
                setting.pending = "none"
                return setting
            }
        }
        for index in section.settings.indices {
            let setting = section.settings[index]
            guard ConfigurationKeys.effect(of: "\(section.path).\(setting.key)") == .atStart else { continue }
            let value = before.settings.first { $0.key == setting.key }?.value
            guard value != setting.value else { continue }
            (kept.settings[index].value, kept.settings[index].pending) = (value, setting.value ?? "none")
        }
        return kept
    }

    /// What the file says otherwise than what counts until the next start: "dicom.port".
    var pendingKeys: [String] {
        sections.flatMap { section in
            section.settings.filter { $0.pending != nil }.map { "\(section.path).\($0.key)" }
        }
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

    func facts(refusal: ConfigurationFacts.Refusal? = nil) -> ConfigurationFacts {
        .init(
            file: file, readAt: readAt, digest: digest, standing: standing, sections: sections, refusal: refusal)
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
