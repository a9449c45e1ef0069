/// Daemon → a template of workers. The worker's end of its channel comes along as a descriptor.
public enum TemplateRequest: Codable, Sendable, Equatable {
    case fork
}

/// A template of workers → daemon, one for each request.
public enum TemplateReply: Codable, Sendable, Equatable {
    case forked(processID: Int32)
    case failed(reason: String)
}
