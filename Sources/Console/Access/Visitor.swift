/// What a user may do: all that a viewer may, an operator may too.
public enum Role: String, Sendable, CaseIterable {
    /// Sees studies with their patients.
    case viewer
    /// Also decides about studies and deliveries.
    case `operator`
}

/// Who asks.
public struct Visitor: Sendable, Equatable {
    /// nil: not signed in.
    public var user: String?
    public var role: Role?
    /// Sent back with every form: what another site makes a browser send does not have it.
    public var csrfToken: String
    /// Where the request comes from.
    public var address: String

    public init(user: String? = nil, role: Role? = nil, csrfToken: String = "", address: String = "") {
        self.user = user
        self.role = role
        self.csrfToken = csrfToken
        self.address = address
    }

    public var isSignedIn: Bool { user != nil }
    public var maySeePatients: Bool { role != nil }
    public var mayAct: Bool { role == .operator }

    static let hiddenReason = "the reason is shown after signing in"
    /// What a peer said may name a patient.
    func mayRead(_ said: String) -> String { maySeePatients ? said : Self.hiddenReason }
}

/// What a route asks of who asks for it.
public enum Access: Sendable {
    /// Health, metrics, style, signing in: nothing of any study.
    case open
    /// Without anything of a patient: everybody where no users are configured, else who is signed in.
    case overview
    case patients
    /// An operator; with the token of the session where it is a browser's.
    case acting
}
