public import WorkerProtocol

/// How this program names itself in file meta headers (PS3.10 §7.1) and association requests (PS3.7 §D.3.3.2).
public enum Implementation {
    public static let classUID = UID(literal: "2.25.299493255047639201196599700104094056214")
    /// At most 16 characters.
    public static let versionName = "ICHNODE_1"
}
