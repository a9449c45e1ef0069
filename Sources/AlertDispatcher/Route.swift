public import WorkerProtocol

/// How soon a positive finding wants to be looked at. By its name in events, as a priority in HL7 (TQ1-9).
public enum Urgency: String, CaseIterable, Sendable, Codable {
    case stat, asap, routine
}

/// A regular expression on Institution Name (0008,0080); how names are compared says who makes it.
public struct InstitutionPattern: Sendable, Equatable, CustomStringConvertible {
    public let source: String
    private let isIn: @Sendable (String?) -> Bool

    public init(_ source: String, matches: @escaping @Sendable (String?) -> Bool) {
        self.source = source
        isIn = matches
    }

    func matches(_ name: String?) -> Bool { isIn(name) }
    public static func == (left: InstitutionPattern, right: InstitutionPattern) -> Bool { left.source == right.source }
    public var description: String { source }
}

/// Which results of which studies go where, and by what threshold they are judged.
public struct Route: Sendable, Equatable {
    /// Among the destinations of a route: the peer whose AE title is the study's calling AE title.
    public static let sender = "sender"

    public var name: String
    /// Calling AE titles that it takes; empty: any.
    public var callingAETitles: [AETitle]
    /// Called AE titles that it takes; empty: any.
    public var calledAETitles: [AETitle]
    /// Institutions that it takes; empty: any, also where none is named.
    public var institutions: [InstitutionPattern]
    /// Names of peers, or `sender`.
    public var destinations: [String]
    public var reportClass: ReportClass
    /// Whether a positive study gets one picture of its most suspicious slices.
    public var summary: Bool
    /// Whether a positive study gets a Key Object Selection Document.
    public var keyObjects: Bool
    /// Name of a threshold of the model package.
    public var threshold: String
    /// Names of receivers that are told when a study becomes positive, and when it turns out not to be.
    public var alerts: [String]
    /// Of a positive study.
    public var urgency: Urgency
    /// Name of the peer that is asked how many images of a study it holds; nil: nobody is.
    public var countsFrom: String?
    /// Name of the peer that is asked for images that are missing; nil: nobody is.
    public var retrieveFrom: String?

    public init(
        name: String, callingAETitles: [AETitle] = [], calledAETitles: [AETitle] = [],
        institutions: [InstitutionPattern] = [], destinations: [String], reportClass: ReportClass = .enhanced,
        summary: Bool = true, keyObjects: Bool = false, threshold: String = "balanced", alerts: [String] = [],
        urgency: Urgency = .stat, countsFrom: String? = nil, retrieveFrom: String? = nil
    ) {
        self.name = name
        self.callingAETitles = callingAETitles
        self.calledAETitles = calledAETitles
        self.institutions = institutions
        self.destinations = destinations
        self.reportClass = reportClass
        self.summary = summary
        self.keyObjects = keyObjects
        self.threshold = threshold
        self.alerts = alerts
        self.urgency = urgency
        self.countsFrom = countsFrom
        self.retrieveFrom = retrieveFrom
    }
}

/// The routes in order; the first that takes a study has it.
public struct RouteTable: Sendable, Equatable {
    /// What a route says to a study.
    public enum Verdict: Sendable, Equatable {
        /// With the sender among the destinations by its name.
        case takes(Route)
        /// Why it does not, in words.
        case passesOver([String])
    }

    public var routes: [Route]
    /// AE titles of the peers by name.
    private let peers: [String: AETitle]

    /// - Parameter peers: AE titles of the peers that results may be sent to, by name.
    public init(_ routes: [Route], peers: [String: AETitle] = [:]) {
        self.routes = routes
        self.peers = peers
    }

    public func route(for origin: StudyOrigin) -> Route? {
        for route in routes { if case .takes(let taking) = verdict(of: route, on: origin) { return taking } }
        return nil
    }

    public func verdict(of route: Route, on origin: StudyOrigin) -> Verdict {
        var taking = route
        var reasons = [
            Self.obstacle("calling", origin.callingAETitle, route.callingAETitles),
            Self.obstacle("called", origin.calledAETitle, route.calledAETitles),
            Self.obstacle(institution: origin, route.institutions),
        ].compactMap { $0 }
        if route.destinations.contains(Route.sender) {
            if let peer = sender(origin.callingAETitle) {
                // Each once, also where the sender is named too.
                taking.destinations = route.destinations.map { $0 == Route.sender ? peer : $0 }
                    .reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
            } else {
                let title = origin.callingAETitle
                reasons.append(
                    "it answers to the sender, and no peer has the AE title \(Self.text(title))"
                        + Self.hint(title, among: peers.values.sorted { $0.string < $1.string }))
            }
        }
        return reasons.isEmpty ? .takes(taking) : .passesOver(reasons)
    }

    private func sender(_ title: AETitle?) -> String? {
        peers.filter { $0.value == title }.map(\.key).min()
    }

    private static func obstacle(_ side: String, _ title: AETitle?, _ taken: [AETitle]) -> String? {
        if taken.isEmpty || title.map(taken.contains) ?? false { return nil }
        let titles = taken.map(\.string).joined(separator: ", ")
        return "\(side) AE title \(text(title)) is not among \(titles)\(hint(title, among: taken))"
    }

    private static func obstacle(institution origin: StudyOrigin, _ taken: [InstitutionPattern]) -> String? {
        if taken.isEmpty || taken.contains(where: { $0.matches(origin.institutionName) }) { return nil }
        let patterns = taken.map { "\"\($0)\"" }.joined(separator: ", ")
        return "institution \(origin.institutionText) does not match \(patterns)"
    }

    private static func text(_ title: AETitle?) -> String { title?.string ?? "unknown" }

    /// AE titles are compared with their case (PS3.5 §6.2: the characters of an AE are significant but for leading and
    /// trailing spaces), which nobody sees who looks for the mistake.
    private static func hint(_ title: AETitle?, among others: [AETitle]) -> String {
        guard let title else { return "" }
        func plain(_ each: AETitle) -> String { each.string.lowercased().filter { $0 != " " } }
        let near = others.first { $0 != title && plain($0) == plain(title) }
        return near.map { " (\"\($0)\" differs in case or inner spaces, which count)" } ?? ""
    }
}
