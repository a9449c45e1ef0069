@testable import DICOM
import WorkerProtocol

#if canImport(FuzzSupport)
import FuzzSupport
#endif

/// The streaming header reader.
///
/// Input: one byte of options (bits 0–1: `syntaxes`, bit 2: small limits, bit 3: deflate here what follows), one byte
/// whose low nibble says how many sizes of pieces follow, one byte each (0: all that is left; none: byte by byte), then
/// the data set as sent.
public enum HeaderCheck {
    private static let syntaxes: [TransferSyntax] = [
        .implicitLittleEndian, .explicitLittleEndian, .explicitBigEndian, .deflated,
    ]
    /// So that inputs of a few kilobytes reach every limit.
    private static let smallLimits = ObjectLimits(
        sequenceDepth: 4, elementBytes: 96, headerBytes: 600, objectBytes: 1 << 20)

    public static func check(_ input: [UInt8]) throws {
        var source = ByteSource(input)
        let options = source.byte()
        let syntax = syntaxes[Int(options & 3)]
        let limits = options & 4 == 0 ? ObjectLimits() : smallLimits
        let pieces = source.bytes(Int(source.byte() & 15))
        let body = source.remainder()
        let sent = syntax == .deflated && options & 8 != 0 ? Deflate.stored(body, pieces: pieces) : body

        let whole = outcome(sent, syntax, limits, pieces: [0])
        let inPieces = outcome(sent, syntax, limits, pieces: pieces.isEmpty ? [1] : pieces)
        try require(whole == inPieces, "whole: \(whole)\nin pieces of \(pieces): \(inPieces)")
        try checkBounds(whole, limits)
        try compareWithSlowReader(whole, sent, syntax, limits)
        if syntax == .deflated, options & 8 != 0 {
            let plain = outcome(body, .explicitLittleEndian, limits, pieces: [0])
            try require(whole.sameHeader(as: plain), "deflated: \(whole)\nplain: \(plain)")
        }
    }

    // MARK: What a reader makes of an input

    struct Outcome: Equatable {
        struct Failure: Equatable {
            var code: HeaderError.Code
            var text: String
        }
        var failure: Failure?
        var values: [Tag: [UInt8]]
        var groups = FunctionalGroups()
        var hasPixelData: Bool
        var pixelDataLength: Int?
        var record: InstanceRecord?
        var identityProblem: String?

        func sameHeader(as other: Outcome) -> Bool {
            failure == other.failure && values == other.values && groups == other.groups
                && hasPixelData == other.hasPixelData
                && pixelDataLength == other.pixelDataLength
        }
    }

    private static func outcome(
        _ bytes: [UInt8], _ syntax: TransferSyntax, _ limits: ObjectLimits, pieces: [UInt8]
    ) -> Outcome {
        let reader = HeaderReader(transferSyntax: syntax, limits: limits)
        var outcome = Outcome(values: [:], hasPixelData: false)
        do throws(HeaderError) {
            try feed(bytes, to: reader, pieces: pieces)
            try reader.finish()
            do throws(HeaderError) { outcome.record = try InstanceRecord(reader, transferSyntax: syntax) } catch {
                outcome.identityProblem = "\(error.code) \(error.description)"
            }
        } catch {
            outcome.failure = .init(code: error.code, text: error.description)
        }
        outcome.values = reader.values.values
        outcome.groups = reader.functionalGroups
        outcome.hasPixelData = reader.hasPixelData
        outcome.pixelDataLength = reader.pixelDataLength
        return outcome
    }

    private static func feed(_ bytes: [UInt8], to reader: HeaderReader, pieces: [UInt8]) throws(HeaderError) {
        var failure: HeaderError?
        bytes.withUnsafeBytes { all in
            var rest = all
            var turn = 0
            while !rest.isEmpty, failure == nil {
                let size = Int(pieces[turn % pieces.count])
                let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(size == 0 ? rest.count : size))
                do throws(HeaderError) { try reader.consume(piece) } catch { failure = error }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
                turn += 1
            }
        }
        if let failure { throw failure }
    }

    // MARK: Invariants

    private static func checkBounds(_ outcome: Outcome, _ limits: ObjectLimits) throws {
        try require(
            Set(outcome.values.keys).isSubset(of: Tag.recorded), "kept an attribute that nobody asked for")
        try require(
            outcome.values.values.allSatisfy { $0.count <= min(ElementScanner.mostKeptBytes, limits.elementBytes) },
            "kept a value beyond the limit")
        if let failure = outcome.failure {
            try require(failure.code != .identity, "the reader itself does not look at identity")
            return
        }
        try require(
            (outcome.record == nil) == (outcome.identityProblem != nil), "neither a record nor a reason for none")
        if let record = outcome.record {
            let numbers = (record.image.position ?? []) + (record.image.orientation ?? [])
            try require(numbers.allSatisfy(\.isFinite), "a number that is none")
            try checkFrames(record)
        }
    }

    private static func checkFrames(_ record: InstanceRecord) throws {
        guard let multiFrame = record.multiFrame else { return }
        let count = multiFrame.frames.count
        try require(count <= MultiFrame.mostFrames, "\(count) frames")
        try require((count == 0) == (multiFrame.problem != nil), "neither frames nor a reason for none")
        try require(Set(record.images.map(\.sopInstanceUID)).count == max(1, count), "frames with the same UID")
    }

    /// Both have to accept the same data sets, with the same values, and refuse the others for the same reason.
    private static func compareWithSlowReader(
        _ outcome: Outcome, _ sent: [UInt8], _ syntax: TransferSyntax, _ limits: ObjectLimits
    ) throws {
        let (bytes, isSound) = syntax.isDeflated ? Deflate.inflated(sent) : (sent, true)
        var slow = SlowHeaderReader(bytes, syntax, limits)
        var expected: HeaderError.Code?
        do throws(SlowHeaderReader.Failure) { try slow.read() } catch {
            expected = error.code
        }
        let endsEarly = expected == .truncated || (expected == nil && !slow.hasPixelData)
        if !isSound && endsEarly { expected = .malformed }
        try require(
            outcome.failure?.code == expected,
            "\(outcome.failure?.text ?? "accepted"), but the slow reader: \(expected.map { "\($0)" } ?? "accepts")")
        guard expected == nil else { return }
        try require(outcome.values == slow.values, "values \(outcome.values), slow reader \(slow.values)")
        try require(outcome.groups == slow.groups, "groups \(outcome.groups), slow reader \(slow.groups)")
        try require(outcome.hasPixelData == slow.hasPixelData, "pixel data: slow reader \(slow.hasPixelData)")
        try require(slow.deepest <= limits.sequenceDepth, "\(slow.deepest) sequences deep")
        try require(slow.longestValue <= limits.elementBytes, "a value of \(slow.longestValue) bytes")
        try require(slow.lastEnd <= limits.headerBytes, "a header of \(slow.lastEnd) bytes")
    }
}
