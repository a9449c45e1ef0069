import Testing
import WorkerProtocol

@testable import DICOM

/// Feeds the bytes in pieces of the given size.
func read(
    _ bytes: [UInt8], _ syntax: TransferSyntax = .explicitLittleEndian, limits: ObjectLimits = .init(),
    pieces: Int = .max
) throws(HeaderError) -> HeaderReader {
    let reader = HeaderReader(transferSyntax: syntax, limits: limits)
    var failure: HeaderError?
    bytes.withUnsafeBytes { all in
        var rest = all
        while !rest.isEmpty, failure == nil {
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(pieces))
            do throws(HeaderError) { try reader.consume(piece) } catch { failure = error }
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(pieces))
        }
    }
    if let failure { throw failure }
    try reader.finish()
    return reader
}

/// RFC 1951 §3.2.4: blocks that hold the bytes as they are.
func stored(_ bytes: [UInt8]) -> [UInt8] {
    var rest = bytes[...]
    var stream: [UInt8] = []
    repeat {
        let block = rest.prefix(0xFFFF)
        rest = rest.dropFirst(block.count)
        let length = UInt16(block.count)
        stream += [rest.isEmpty ? 1 : 0]
        stream += [UInt8(length & 0xFF), UInt8(length >> 8), UInt8(~length & 0xFF), UInt8(~length >> 8)]
        stream += block
    } while !rest.isEmpty
    return stream
}

@Suite struct HeaderReaderTests {
    @Test(
        arguments: [
            ("7", 7), ("+7", 7), (" -7 ", -7), ("2147483647", 2_147_483_647), ("-2147483648", -2_147_483_648),
            ("2147483648", nil), ("-2147483649", nil), ("9223372036854775807", nil), ("seven", nil),
        ] as [(String, Int?)]) func anIntegerStringIsWithinItsRange(text: String, value: Int?)
    {
        let values = HeaderValues(values: [.imagesInAcquisition: Array(text.utf8)], isBigEndian: false)
        #expect(values.integer(.imagesInAcquisition) == value)
    }

    static let plainSyntaxes: [TransferSyntax] = [.implicitLittleEndian, .explicitLittleEndian, .explicitBigEndian]

    @Test(arguments: plainSyntaxes, [1, 3, 7, 100_000])
    func readsTheRecordInPiecesOfAnySize(syntax: TransferSyntax, pieces: Int) throws {
        let bytes = DataSetBytes.ct(explicit: syntax != .implicitLittleEndian, bigEndian: syntax == .explicitBigEndian)
        let reader = try read(bytes, syntax, pieces: pieces)
        let record = try InstanceRecord(reader, transferSyntax: syntax)
        #expect(record.sopClassUID.string == DataSetBytes.sopClass)
        #expect(record.sopInstanceUID.string == DataSetBytes.sopInstance)
        #expect(record.studyInstanceUID.string == DataSetBytes.study)
        #expect(record.seriesInstanceUID.string == DataSetBytes.series)
        #expect(record.patient.name == "Müller")
        #expect(record.patient.id == nil)
        #expect(record.image.imageType == ["ORIGINAL", "PRIMARY", "AXIAL"])
        #expect(record.image.position == [-125, -125, 7.5])
        #expect(record.image.instanceNumber == 7)
        #expect(record.image.sliceThickness == 5)
        #expect(record.image.rows == 512)
        #expect(record.image.columns == 256)
        #expect(record.image.hasPixelData)
        #expect(reader.pixelDataLength == 4)
    }

    @Test(arguments: [1, 5, 100_000])
    func readsDeflatedStreamsOfOddLength(pieces: Int) throws {
        var bytes = stored(DataSetBytes.ct())
        if bytes.count.isMultiple(of: 2) { bytes = stored(DataSetBytes.ct() + [0]) }
        let reader = try read(bytes, .deflated, pieces: pieces)
        #expect(try InstanceRecord(reader, transferSyntax: .deflated).studyInstanceUID.string == DataSetBytes.study)
    }

    @Test func refusesWhatInflatesBeyondTheRatio() throws {
        var padding = DataSetBytes()
        padding.element(0x0009, 0x1001, "OB", [UInt8](repeating: 0, count: 2 << 20))
        var limits = ObjectLimits()
        limits.deflateRatio = 0
        #expect(throws: HeaderError(.overLimit, "")) {
            try read(stored(padding.bytes + DataSetBytes.ct()), .deflated, limits: limits)
        }
        limits.deflateRatio = 1
        _ = try read(stored(padding.bytes + DataSetBytes.ct()), .deflated, limits: limits)
    }

    @Test func refusesACorruptDeflatedStream() {
        #expect(throws: HeaderError(.malformed, "")) { try read([0xFF, 0xFF, 0xFF, 0xFF], .deflated) }
    }

    @Test(arguments: [10, 32])
    func followsNestedSequences(depth: Int) throws {
        for (syntax, nested) in Self.nestings(depth) {
            let bytes = DataSetBytes.ct(explicit: syntax != .implicitLittleEndian, insertion: nested)
            let record = try InstanceRecord(try read(bytes, syntax), transferSyntax: syntax)
            #expect(record.studyInstanceUID.string == DataSetBytes.study)
        }
    }

    @Test(arguments: [33, 300, 700, 6000, 200_000])
    func refusesDeeperNesting(depth: Int) {
        for (syntax, nested) in Self.nestings(depth) {
            let bytes = DataSetBytes.ct(explicit: syntax != .implicitLittleEndian, insertion: nested)
            #expect(throws: HeaderError(.tooDeep, "")) { try read(bytes, syntax) }
        }
    }

    /// Every way to nest: undefined and defined lengths, with and without VR, and as UN.
    static func nestings(_ depth: Int) -> [(TransferSyntax, [UInt8])] {
        var asUnknown = DataSetBytes()
        asUnknown.header(0x0019, 0x1001, "UN", length: DataSetBytes.undefined)
        asUnknown.header(0xFFFE, 0xE000, "", length: DataSetBytes.undefined)
        asUnknown.append(DataSetBytes.nested(depth - 1, explicit: false))
        asUnknown.header(0xFFFE, 0xE00D, "", length: 0)
        asUnknown.header(0xFFFE, 0xE0DD, "", length: 0)
        // Where lengths are defined each level is written for itself, which takes its time in the test.
        let definedDepth = min(depth, 6000)
        return [
            (.explicitLittleEndian, DataSetBytes.nested(depth)),
            (.explicitLittleEndian, DataSetBytes.nested(definedDepth, defined: true)),
            (.implicitLittleEndian, DataSetBytes.nested(depth, explicit: false)),
            (.implicitLittleEndian, DataSetBytes.nested(definedDepth, explicit: false, defined: true)),
            (.explicitLittleEndian, asUnknown.bytes),
        ]
    }

    @Test func boundsElementsAndHeader() throws {
        var set = DataSetBytes()
        set.element(0x0009, 0x1001, "OB", [UInt8](repeating: 0, count: 1000))
        let bytes = DataSetBytes.ct(insertion: set.bytes)
        var limits = ObjectLimits()
        limits.elementBytes = 1000
        _ = try read(bytes, limits: limits)
        limits.elementBytes = 999
        #expect(throws: HeaderError(.overLimit, "")) { try read(bytes, limits: limits) }

        limits = ObjectLimits()
        // Up to and with the last value before Pixel Data.
        limits.headerBytes = bytes.count - 12 - 4
        _ = try read(bytes, limits: limits)
        limits.headerBytes -= 1
        #expect(throws: HeaderError(.overLimit, "")) { try read(bytes, limits: limits) }
    }

    /// zlib gives what it has made before the place of the damage, and the damage, in one call or in two.
    @Test(arguments: [1, 7, 100_000])
    func damageInADeflatedStreamIsFoundAtTheSamePlaceInPiecesOfAnySize(pieces: Int) throws {
        let damage: [UInt8] = [0x07]  // RFC 1951 §3.2.3: a block of the reserved type.
        let header = Array(DataSetBytes.ct().prefix(100))
        do {
            _ = try read([0] + stored(header).dropFirst() + damage, .deflated, pieces: pieces)
            Issue.record("accepted")
        } catch {
            #expect(error.code == .malformed)
            #expect(error.offset == header.count)
        }
        // Behind the beginning of Pixel Data nothing is read.
        let reader = try read([0] + stored(DataSetBytes.ct()).dropFirst() + damage, .deflated, pieces: pieces)
        #expect(reader.hasPixelData)
    }

    @Test func itemsWithoutElementsCountAsHeader() throws {
        var set = DataSetBytes()
        set.header(0x0040, 0xA730, "SQ", length: DataSetBytes.undefined)
        for _ in 0..<100 {
            set.header(0xFFFE, 0xE000, "", length: DataSetBytes.undefined)
            set.header(0xFFFE, 0xE00D, "", length: 0)
        }
        set.header(0xFFFE, 0xE0DD, "", length: 0)
        var limits = ObjectLimits()
        limits.headerBytes = set.bytes.count
        var pixels = DataSetBytes()
        pixels.element(0x7FE0, 0x0010, "OW", [0, 0])
        _ = try read(set.bytes + pixels.bytes, limits: limits)
        limits.headerBytes -= 1
        #expect(throws: HeaderError(.overLimit, "")) { try read(set.bytes + pixels.bytes, limits: limits) }
    }

    @Test(arguments: [[UInt8](repeating: 0, count: 4), [0xFE, 0xFF, 0x00, 0xE0]])
    func boundsElementsInImplicitVR(beginning: [UInt8]) throws {
        var set = DataSetBytes(explicit: false)
        set.element(0x0009, 0x1001, "", beginning + [UInt8](repeating: 0xAB, count: 996))
        let bytes = DataSetBytes.ct(explicit: false, insertion: set.bytes)
        var limits = ObjectLimits()
        limits.elementBytes = 1000
        _ = try read(bytes, .implicitLittleEndian, limits: limits)
        limits.elementBytes = 999
        #expect(throws: HeaderError(.overLimit, "")) { try read(bytes, .implicitLittleEndian, limits: limits) }
    }

    /// Binary values of private elements hold anything: here what looks like a fragment longer than the limit.
    @Test func aValueThatLooksLikeAnOverlongFragmentIsNoSequence() throws {
        let inner: [UInt8] =
            [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF] + [0xE0, 0x7F, 0x10, 0x00, 0xFF, 0xFF, 0xFF, 0xFF]
            + [0xFE, 0xFF, 0x00, 0xE0, 0xEE, 0xEE, 0xEE, 0xEE] + [UInt8](repeating: 0xEE, count: 16)
        var set = DataSetBytes(explicit: false)
        set.element(0x0019, 0x1001, "", inner)
        let reader = try read(DataSetBytes.ct(explicit: false, insertion: set.bytes), .implicitLittleEndian)
        #expect(try InstanceRecord(reader, transferSyntax: .implicitLittleEndian).image.rows == 512)
    }

    @Test func passesOverFragmentsOfAnIcon() throws {
        var set = DataSetBytes()
        set.header(0x0088, 0x0200, "SQ", length: DataSetBytes.undefined)
        set.header(0xFFFE, 0xE000, "", length: DataSetBytes.undefined)
        set.header(0x7FE0, 0x0010, "OB", length: DataSetBytes.undefined)
        set.header(0xFFFE, 0xE000, "", length: 0)
        set.header(0xFFFE, 0xE000, "", length: 3)
        set.append([1, 2, 3])
        set.header(0xFFFE, 0xE0DD, "", length: 0)
        set.header(0xFFFE, 0xE00D, "", length: 0)
        set.header(0xFFFE, 0xE0DD, "", length: 0)
        let record = try InstanceRecord(
            try read(DataSetBytes.ct(insertion: set.bytes)), transferSyntax: .explicitLittleEndian)
        #expect(record.seriesInstanceUID.string == DataSetBytes.series)
    }

    @Test(arguments: [1, 9, 100_000])
    func aValueThatOnlyBeginsLikeAnItemIsNoSequence(pieces: Int) throws {
        var set = DataSetBytes(explicit: false)
        set.element(0x0019, 0x1001, "", [0xFE, 0xFF, 0x00, 0xE0] + [UInt8](repeating: 0xAB, count: 41))
        set.element(0x0019, 0x1002, "", [0xFE, 0xFF, 0x00, 0xE0, 8, 0, 0, 0] + [UInt8](repeating: 1, count: 8))
        let bytes = DataSetBytes.ct(explicit: false, insertion: set.bytes)
        let reader = try read(bytes, .implicitLittleEndian, pieces: pieces)
        #expect(try InstanceRecord(reader, transferSyntax: .implicitLittleEndian).image.rows == 512)
    }

    @Test func sequencesDoNotShadowTheTopLevel() throws {
        var inner = DataSetBytes()
        inner.element(0x0020, 0x000D, "UI", "9.9.9")
        var set = DataSetBytes()
        set.header(0x0018, 0x9346, "SQ", length: DataSetBytes.undefined)
        set.header(0xFFFE, 0xE000, "", length: UInt32(inner.bytes.count))
        set.append(inner.bytes)
        set.header(0xFFFE, 0xE0DD, "", length: 0)
        let record = try InstanceRecord(
            try read(DataSetBytes.ct(insertion: set.bytes)), transferSyntax: .explicitLittleEndian)
        #expect(record.studyInstanceUID.string == DataSetBytes.study)
    }

    @Test func toleratesOddLengthsAndPadding() throws {
        var set = DataSetBytes()
        set.element(0x0008, 0x0016, "UI", Array("1.2.840.10008.5.1.4.1.1.2".utf8))
        set.element(0x0008, 0x0018, "UI", Array("1.2.3.4 ".utf8))
        set.element(0x0008, 0x0060, "CS", Array("CT\0".utf8))
        set.element(0x0020, 0x000D, "UI", Array("1.2.3\0\0\0".utf8))
        set.element(0x0020, 0x000E, "UI", Array("1.2.3.1".utf8))
        set.append([0])
        let record = try InstanceRecord(try read(set.bytes), transferSyntax: .explicitLittleEndian)
        #expect(record.sopInstanceUID.string == "1.2.3.4")
        #expect(record.series.modality == "CT")
        #expect(!record.image.hasPixelData)
    }

    @Test(arguments: ["../../x", "1..2", "", String(repeating: "1", count: 65), "1.2.3/4"])
    func refusesWhatIsNoUID(text: String) throws {
        var set = DataSetBytes()
        set.element(0x0008, 0x0016, "UI", DataSetBytes.sopClass)
        set.element(0x0008, 0x0018, "UI", text)
        set.element(0x0020, 0x000D, "UI", DataSetBytes.study)
        set.element(0x0020, 0x000E, "UI", DataSetBytes.series)
        let reader = try read(set.bytes)
        #expect(throws: HeaderError(.identity, "")) {
            try InstanceRecord(reader, transferSyntax: .explicitLittleEndian)
        }
    }

    @Test func everyTruncationIsRefused() throws {
        let bytes = DataSetBytes.ct(insertion: DataSetBytes.nested(3))
        let whole = bytes.count - 4
        for count in 1..<whole {
            // Between two top-level elements nothing shows that more was to come; then the identity is missing.
            do {
                let reader = try read(Array(bytes.prefix(count)))
                #expect(!reader.hasPixelData)
            } catch { #expect(error.code == .truncated) }
        }
    }

    @Test(arguments: plainSyntaxes)
    func survivesMutations(syntax: TransferSyntax) {
        let explicit = syntax != .implicitLittleEndian
        let valid = DataSetBytes.ct(
            explicit: explicit, bigEndian: syntax == .explicitBigEndian,
            insertion: syntax == .explicitBigEndian
                ? []
                : DataSetBytes.nested(4, explicit: explicit) + DataSetBytes.nested(4, explicit: explicit, defined: true)
        )
        var generator = SeededGenerator(seed: 20_240_817)
        var refused = 0
        for _ in 0..<4000 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[at] = UInt8.random(in: 0...255, using: &generator)
            }
            if Int.random(in: 0..<4, using: &generator) == 0 {
                bytes.removeLast(Int.random(in: 1..<bytes.count, using: &generator))
            }
            do {
                let reader = try read(bytes, syntax, pieces: Int.random(in: 1...64, using: &generator))
                _ = try InstanceRecord(reader, transferSyntax: syntax)
            } catch { refused += 1 }
        }
        #expect(refused > 0)
        #expect(refused < 4000)
    }

    @Test func decodesUTF8() throws {
        var set = DataSetBytes()
        set.element(0x0008, 0x0005, "CS", "ISO_IR 192")
        set.element(0x0008, 0x1030, "LO", "Schädel ☢")
        #expect(try read(set.bytes).values.text(.studyDescription) == "Schädel ☢")
    }
}
