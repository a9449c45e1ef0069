/// Why there is no answer of a receiver's.
struct MLLPFailure: Error, Equatable {
    enum Code: Sendable {
        /// It cannot be reached.
        case connect
        /// The connection ended before the answer began.
        case closed
        /// It did not answer in time.
        case silence
        /// It said something else than an answer.
        case unexpected
    }

    let code: Code
    let reason: String
    init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }
}

/// Minimal Lower Layer Protocol (HL7 v2.5.1 implementation guide, appendix C): a block begins with VT and ends with
/// FS, CR.
enum MLLPFrame {
    static let start: UInt8 = 0x0B
    static let end: [UInt8] = [0x1C, 0x0D]

    static func encoded(_ text: String) -> [UInt8] { [start] + Array(text.utf8) + end }
}

/// One block at a time, put together from what arrives.
struct MLLPReader {
    /// Of an answer. An acknowledgement has a few hundred bytes.
    static let mostBytes = 65536

    private var block: [UInt8] = []
    var isEmpty: Bool { block.isEmpty }

    /// - Returns: the block's content once it is whole, and whether anything follows, which nobody asked for.
    /// - Throws: `MLLPFailure` where this is no block; nothing more can be read then.
    mutating func take(_ bytes: some Collection<UInt8>) throws(MLLPFailure) -> (content: String, hasMore: Bool)? {
        var left = bytes.count
        for byte in bytes {
            left -= 1
            block.append(byte)
            if block.count == 1, byte != MLLPFrame.start { throw MLLPFailure(.unexpected, "answers without MLLP") }
            if block.suffix(2).elementsEqual(MLLPFrame.end) {
                let content = String(decoding: block.dropFirst().dropLast(2), as: UTF8.self)
                block = []
                return (content, left > 0)
            }
            if block.count > Self.mostBytes + 2 {
                throw MLLPFailure(.unexpected, "answers with more than \(Self.mostBytes) bytes")
            }
        }
        return nil
    }
}
