public import WorkerProtocol

/// Which results of which studies go where, and by what threshold they are judged.
public struct Route: Sendable, Equatable {
    public var name: String
    /// Calling AE titles that it takes; empty: any.
    public var callingAETitles: [AETitle]
    /// Called AE titles that it takes; empty: any.
    public var calledAETitles: [AETitle]
    /// Names of peers.
    public var destinations: [String]
    public var reportClass: ReportClass
    /// Whether a positive study gets one picture of its most suspicious slices.
    public var summary: Bool
    /// Whether a positive study gets a Key Object Selection Document.
    public var keyObjects: Bool
    /// Name of a threshold of the model package.
    public var threshold: String
    /// Name of the peer that is asked how many images of a study it holds; nil: nobody is.
    public var countsFrom: String?
    /// Name of the peer that is asked for images that are missing; nil: nobody is.
    public var retrieveFrom: String?
    /// Names of those that are told of findings.
    public var alerts: [String]

    public init(
        name: String, callingAETitles: [AETitle] = [], calledAETitles: [AETitle] = [], destinations: [String],
        reportClass: ReportClass = .enhanced, summary: Bool = true, keyObjects: Bool = false,
        threshold: String = "balanced", countsFrom: String? = nil, retrieveFrom: String? = nil,
        alerts: [String] = []
    ) {
        self.name = name
        self.callingAETitles = callingAETitles
        self.calledAETitles = calledAETitles
        self.destinations = destinations
        self.reportClass = reportClass
        self.summary = summary
        self.keyObjects = keyObjects
        self.threshold = threshold
        self.countsFrom = countsFrom
        self.retrieveFrom = retrieveFrom
        self.alerts = alerts
    }

    func takes(calling: AETitle?, called: AETitle?) -> Bool {
        Self.matches(callingAETitles, calling) && Self.matches(calledAETitles, called)
    }

    private static func matches(_ titles: [AETitle], _ title: AETitle?) -> Bool {
        titles.isEmpty || title.map(titles.contains) ?? false
    }
}

/// The routes in order; the first that takes a study has it.
public struct RouteTable: Sendable, Equatable {
    public var routes: [Route]
    public init(_ routes: [Route]) { self.routes = routes }

    public func route(calling: AETitle?, called: AETitle?) -> Route? {
        routes.first { $0.takes(calling: calling, called: called) }
    }
}
