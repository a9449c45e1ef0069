/// A model package as its card shows it.
public struct ModelFacts: Sendable {
    /// A share or an area, with its 95 % interval where one is stated.
    public struct Estimate: Sendable, Equatable {
        public var value: Double
        public var low: Double?
        public var high: Double?
        /// Of how many; nil: not stated.
        public var count: Int?
        public init(value: Double, low: Double? = nil, high: Double? = nil, count: Int? = nil) {
            self.value = value
            self.low = low
            self.high = high
            self.count = count
        }
    }

    public struct OperatingPoint: Sendable {
        public var name: String
        public var threshold: Double
        public init(name: String, threshold: Double) {
            self.name = name
            self.threshold = threshold
        }
    }

    /// What was measured on one set of studies.
    public struct Measured: Sendable {
        public var set: String
        public var studies: Int?
        public var positiveStudies: Int?
        /// Of the whole set, by name.
        public var figures: [(name: String, estimate: Estimate)]
        /// By operating point, then by name.
        public var points: [String: [(name: String, estimate: Estimate)]]
        /// By class.
        public var classes: [(name: String, figures: [(name: String, estimate: Estimate)])]
        public init(
            set: String, studies: Int?, positiveStudies: Int?, figures: [(name: String, estimate: Estimate)],
            points: [String: [(name: String, estimate: Estimate)]],
            classes: [(name: String, figures: [(name: String, estimate: Estimate)])]
        ) {
            self.set = set
            self.studies = studies
            self.positiveStudies = positiveStudies
            self.figures = figures
            self.points = points
            self.classes = classes
        }
    }

    public struct Route: Sendable {
        public var name: String
        /// Name of an operating point, or a number.
        public var threshold: String
        public var value: Double
        public init(name: String, threshold: String, value: Double) {
            self.name = name
            self.threshold = threshold
            self.value = value
        }
    }

    /// What the package says of its limits.
    public struct Limits: Sendable, Codable, Equatable {
        public var intendedUse: String
        public var neverTriedOn: [String]
        public var weakSpots: [String]
        public init(intendedUse: String, neverTriedOn: [String], weakSpots: [String]) {
            self.intendedUse = intendedUse
            self.neverTriedOn = neverTriedOn
            self.weakSpots = weakSpots
        }
    }

    public var name: String
    public var version: String
    public var created: String
    public var description: String
    public var digest: String
    public var directory: String
    public var classes: [String]
    public var sliceThreshold: Double
    /// In words.
    public var input: String
    public var operatingPoints: [OperatingPoint]
    public var routes: [Route]
    /// Label and text.
    public var training: [(name: String, text: String)]
    public var measured: [Measured]
    /// nil: the package says nothing of them.
    public var limits: Limits?

    public init(
        name: String, version: String, created: String, description: String, digest: String, directory: String,
        classes: [String], sliceThreshold: Double, input: String, operatingPoints: [OperatingPoint], routes: [Route],
        training: [(name: String, text: String)], measured: [Measured], limits: Limits?
    ) {
        self.name = name
        self.version = version
        self.created = created
        self.description = description
        self.digest = digest
        self.directory = directory
        self.classes = classes
        self.sliceThreshold = sliceThreshold
        self.input = input
        self.operatingPoints = operatingPoints
        self.routes = routes
        self.training = training
        self.measured = measured
        self.limits = limits
    }
}
