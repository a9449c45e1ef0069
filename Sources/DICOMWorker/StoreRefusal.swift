internal import DICOM
internal import WorkerProtocol

/// Why an object is not taken: the status of its C-STORE response, and the reason in words.
struct StoreRefusal: Error {
    var status: StoreStatus
    /// Lower-case phrase, no patient identity.
    var reason: String

    init(_ status: StoreStatus, _ reason: String) {
        self.status = status
        self.reason = reason
    }

    init(_ error: HeaderError) { self.init(StoreStatus(error.code), error.description) }

    /// A system call failed: final for the object (a second fsync would lie), the sender may try again.
    static func system(_ what: String) -> StoreRefusal { StoreRefusal(.outOfResources, "\(what): \(Errno.text)") }
}
