import Foundation
import Testing
import WorkerProtocol

@testable import DICOM

/// Enhanced CT headers (PS3.3 A.38.1), byte by byte.
struct EnhancedBytes {
    var syntax = TransferSyntax.explicitLittleEndian
    var isDefined = true
    var shared: [UInt8]?
    var frames: [[UInt8]] = []
    var numberOfFrames: String?
    var sopClass = "1.2.840.10008.5.1.4.1.1.2.1"
    /// Between groups 0018 and 0020, and behind group 0020.
    var contrast: [UInt8] = []
    var concatenation: [UInt8] = []

    func elements(_ fill: (inout DataSetBytes) -> Void) -> [UInt8] {
        var set = DataSetBytes(explicit: syntax.isExplicitVR, bigEndian: syntax.isBigEndian)
        fill(&set)
        return set.bytes
    }

    func sequence(_ group: UInt32, _ element: UInt32, _ items: [UInt8]...) -> [UInt8] {
        sequence(group, element, items: items)
    }

    func sequence(_ group: UInt32, _ element: UInt32, items: [[UInt8]]) -> [UInt8] {
        let content = elements { set in
            for item in items {
                set.header(0xFFFE, 0xE000, "", length: isDefined ? UInt32(item.count) : DataSetBytes.undefined)
                set.append(item)
                if !isDefined { set.header(0xFFFE, 0xE00D, "", length: 0) }
            }
            if !isDefined { set.header(0xFFFE, 0xE0DD, "", length: 0) }
        }
        return elements {
            $0.header(group, element, "SQ", length: isDefined ? UInt32(content.count) : DataSetBytes.undefined)
            $0.append(content)
        }
    }

    func position(_ z: Int) -> [UInt8] {
        sequence(0x0020, 0x9113, elements { $0.element(0x0020, 0x0032, "DS", "-120\\-120\\\(z)") })
    }

    func orientation(_ text: String = "1\\0\\0\\0\\1\\0") -> [UInt8] {
        sequence(0x0020, 0x9116, elements { $0.element(0x0020, 0x0037, "DS", text) })
    }

    func measures(thickness: String = "5") -> [UInt8] {
        sequence(
            0x0028, 0x9110,
            elements {
                $0.element(0x0018, 0x0050, "DS", thickness)
                $0.element(0x0028, 0x0030, "DS", "0.5\\0.4")
            })
    }

    func type(_ text: String, technique: String = "NONE") -> [UInt8] {
        sequence(
            0x0018, 0x9329,
            elements {
                $0.element(0x0008, 0x9007, "CS", text)
                $0.element(0x0008, 0x9207, "CS", technique)
            })
    }

    func kernel(_ text: String) -> [UInt8] {
        sequence(0x0018, 0x9314, elements { $0.element(0x0018, 0x1210, "SH", text) })
    }

    func contrast(_ administered: String...) -> [UInt8] {
        sequence(
            0x0018, 0x9341,
            items: administered.map { text in elements { $0.element(0x0018, 0x9342, "CS", text) } })
    }

    func acquisition(_ number: UInt32) -> [UInt8] {
        sequence(0x0020, 0x9111, elements { $0.element(0x0020, 0x9156, "US", $0.number(number, bytes: 2)) })
    }

    var bytes: [UInt8] {
        elements { set in
            set.element(0x0008, 0x0005, "CS", "ISO_IR 100")
            set.element(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE")
            set.element(0x0008, 0x0016, "UI", sopClass)
            set.element(0x0008, 0x0018, "UI", DataSetBytes.sopInstance)
            set.append(contrast)
            set.element(0x0020, 0x000D, "UI", DataSetBytes.study)
            set.element(0x0020, 0x000E, "UI", DataSetBytes.series)
            set.append(concatenation)
            set.element(0x0028, 0x0008, "IS", numberOfFrames ?? "\(frames.count)")
            if let shared { set.append(sequence(0x5200, 0x9229, shared)) }
            set.append(sequence(0x5200, 0x9230, items: frames))
            set.element(0x7FE0, 0x0010, "OW", [1, 2, 3, 4])
        }
    }

    func record(pieces: Int = .max) throws -> InstanceRecord {
        try InstanceRecord(read(bytes, syntax, pieces: pieces), transferSyntax: syntax)
    }
}

@Suite struct FunctionalGroupsTests {
    static let syntaxes = HeaderReaderTests.plainSyntaxes

    @Test(arguments: syntaxes, [true, false]) func sharedAndPerFrameGroupsAreRead(syntax: TransferSyntax, defined: Bool)
        throws
    {
        var image = EnhancedBytes(syntax: syntax, isDefined: defined)
        image.shared =
            image.kernel("H30s") + image.type("ORIGINAL\\PRIMARY\\VOLUME\\NONE") + image.orientation()
            + image.measures()
        image.frames = (0..<3).map { image.acquisition(7) + image.position(5 * $0) }
        for pieces in [1, 7, .max] {
            let record = try image.record(pieces: pieces)
            let multiFrame = try #require(record.multiFrame)
            #expect(multiFrame.problem == nil)
            #expect(multiFrame.frames.map(\.position) == [[-120, -120, 0], [-120, -120, 5], [-120, -120, 10]])
            // Said once of all.
            #expect(multiFrame.frames.allSatisfy { $0.orientation == nil && $0.acquisitionNumber == nil })
            #expect(record.image.orientation == [1, 0, 0, 0, 1, 0])
            #expect(record.image.pixelSpacing == [0.5, 0.4])
            #expect(record.image.sliceThickness == 5)
            #expect(record.image.acquisitionNumber == 7)
            #expect(record.series.convolutionKernel == "H30s")

            let images = record.images
            #expect(images.map(\.image.position) == multiFrame.frames.map(\.position))
            #expect(images.map(\.frame?.number) == [1, 2, 3])
            #expect(images.allSatisfy { $0.frame?.sopInstanceUID == record.sopInstanceUID })
            #expect(Set(images.map(\.sopInstanceUID)).union([record.sopInstanceUID]).count == 4)
            #expect(images == record.images, "the same UIDs each time")
            #expect(images[1].images == [images[1]], "a frame has no frames")
        }
    }

    @Test func aFramesOwnGroupCountsMoreThanTheSharedOne() throws {
        var image = EnhancedBytes()
        image.shared = image.kernel("H30s") + image.orientation() + image.measures(thickness: "5")
        image.frames = [
            image.position(0), image.kernel("H70h") + image.position(5) + image.measures(thickness: "2"),
            image.type("DERIVED\\PRIMARY\\VOLUME\\MAXIMUM", technique: "MAX_IP") + image.position(10)
                + image.orientation("0\\1\\0\\0\\0\\-1"),
        ]
        let images = try image.record().images
        #expect(images.map(\.image.sliceThickness) == [5, 2, 5])
        #expect(images.map(\.series.convolutionKernel) == ["H30s", "H70h", "H30s"])
        #expect(images[0].image.orientation == [1, 0, 0, 0, 1, 0])
        #expect(images[2].image.orientation == [0, 1, 0, 0, 0, -1])
        #expect(images[0].image.imageType == ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
        #expect(images[2].image.imageType == ["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM", "MAX_IP"])
    }

    @Test func contrastIsWhatTheFrameSays() throws {
        var image = EnhancedBytes()
        image.contrast = image.sequence(0x0018, 0x0012, image.elements { $0.element(0x0008, 0x0104, "LO", "Iodine") })
        image.frames = [
            image.contrast("NO") + image.position(0), image.contrast("NO", "YES") + image.position(5),
            image.position(10),
        ]
        #expect(try image.record().images.map(\.series.contrastBolusAgent) == ["none", "administered", "Iodine"])
    }

    @Test func whatHasNoMacroInLegacyConvertedObjectsIsRead() throws {
        var image = EnhancedBytes(sopClass: "1.2.840.10008.5.1.4.1.1.2.2")
        image.shared = image.sequence(0x0020, 0x9170, image.elements { $0.element(0x0018, 0x1210, "SH", "H60s") })
        image.frames = [
            image.position(0),
            image.position(5)
                + image.sequence(0x0020, 0x9171, image.elements { $0.element(0x0018, 0x0010, "LO", "Ultravist") }),
        ]
        let record = try image.record()
        #expect(record.series.convolutionKernel == "H60s")
        #expect(record.images.map(\.series.contrastBolusAgent) == [nil, "Ultravist"])
    }

    @Test func theRegionIsReadWhereNoBodyPartIsNamed() throws {
        var image = EnhancedBytes()
        let region = image.sequence(0x0008, 0x2218, image.elements { $0.element(0x0008, 0x0104, "LO", "Head") })
        image.shared = image.sequence(0x0020, 0x9071, region)
        image.frames = [image.position(0)]
        #expect(try image.record().series.bodyPartExamined == "Head")
    }

    @Test(arguments: syntaxes) func concatenationsAreRead(syntax: TransferSyntax) throws {
        var image = EnhancedBytes(syntax: syntax)
        image.frames = [image.position(0), image.position(5)]
        image.concatenation = image.elements {
            $0.element(0x0020, 0x9161, "UI", "1.2.9")
            $0.element(0x0020, 0x9162, "US", $0.number(2, bytes: 2))
            $0.element(0x0020, 0x9163, "US", $0.number(3, bytes: 2))
            $0.element(0x0020, 0x9228, "UL", $0.number(70_000, bytes: 4))
        }
        let record = try image.record()
        let expected = MultiFrame.Concatenation(uid: UID("1.2.9")!, number: 2, total: 3, frameOffset: 70_000)
        #expect(record.multiFrame?.concatenation == expected)
        #expect(record.images.map(\.image.instanceNumber) == [70_001, 70_002])
    }

    // MARK: What cannot be believed

    @Test func missingGroupsLeaveAFrameWithoutThem() throws {
        var image = EnhancedBytes()
        image.frames = [image.position(0), []]
        let images = try image.record().images
        #expect(images.map(\.image.position) == [[-120, -120, 0], nil])
        #expect(images.allSatisfy { $0.image.orientation == nil })
    }

    @Test func anotherNumberOfFramesIsAProblem() throws {
        var image = EnhancedBytes()
        image.frames = [image.position(0), image.position(5)]
        for count in ["1", "3", "none"] {
            image.numberOfFrames = count
            let record = try image.record()
            #expect(record.multiFrame == MultiFrame([], problem: .otherNumber))
            #expect(record.images == [record])
        }
    }

    @Test func framesAreBounded() throws {
        var image = EnhancedBytes()
        image.frames = Array(repeating: image.position(0), count: MultiFrame.mostFrames)
        #expect(try image.record().images.count == MultiFrame.mostFrames)
        image.frames.append(image.position(0))
        #expect(try image.record().multiFrame == MultiFrame([], problem: .tooMany))
    }

    @Test func valuesAreBounded() throws {
        var image = EnhancedBytes()
        image.frames = [
            image.kernel(String(repeating: "k", count: FunctionalGroups.mostValueBytes)) + image.position(0)
        ]
        #expect(try image.record().multiFrame?.problem == nil)
        image.frames = [
            image.kernel(String(repeating: "k", count: FunctionalGroups.mostValueBytes + 2)) + image.position(0)
        ]
        #expect(try image.record().multiFrame?.problem == .tooLong)
        // Empty values cost room too.
        let empty = image.sequence(0x0018, 0x9314, image.elements { $0.element(0x0018, 0x1210, "SH", "") })
        let many = Array(repeating: empty, count: FunctionalGroups.mostBytes).flatMap(\.self)
        image.frames = [many]
        #expect(try image.record().multiFrame?.problem == nil)
        image.frames = [many + empty]
        #expect(try image.record().multiFrame?.problem == .tooLong)
    }

    @Test func theLongestRecordFitsAMessage() throws {
        var image = EnhancedBytes()
        let kernel = String(repeating: "\u{1}", count: 150)
        let type = String(repeating: "\\", count: 50)
        image.shared = image.kernel(String(repeating: "\u{1}", count: 255))
        image.frames = (0..<MultiFrame.mostFrames).map { number in
            image.kernel(kernel + "\(1000 + number)") + image.type(type) + image.position(1_000_000 + number)
        }
        let record = try image.record()
        #expect(record.multiFrame?.frames.count == MultiFrame.mostFrames)
        #expect(try JSONEncoder().encode(record).count < Frame.Limits().message)
    }

    @Test func aSequenceThatIsNoneIsAProblemAndNoRefusal() throws {
        var image = EnhancedBytes(syntax: .implicitLittleEndian)
        let noItem: [UInt8] = [0xFE, 0xFF, 0, 0xE0] + [UInt8](repeating: 0xAB, count: 42)
        image.frames = [image.position(0) + image.elements { $0.element(0x0020, 0x9116, "UN", noItem) }]
        #expect(try image.record().multiFrame?.problem == .malformed)
        // A private value that looks like a sequence says nothing about the frames.
        image.isDefined = false
        image.frames = [image.position(0) + image.elements { $0.element(0x0021, 0x1001, "UN", noItem) }]
        #expect(try image.record().multiFrame?.problem == nil)
    }

    @Test func nestingWithinGroupsIsLimited() throws {
        var image = EnhancedBytes()
        // The group is the first sequence, what is put into it comes below.
        image.frames = [image.position(0) + DataSetBytes.nested(31)]
        #expect(try image.record().multiFrame?.problem == nil)
        image.frames = [image.position(0) + DataSetBytes.nested(32)]
        #expect { try image.record() } throws: { ($0 as? HeaderError)?.code == .tooDeep }
    }

    @Test func whatLiesDeeperOrElsewhereIsNotAFramesOwn() throws {
        var image = EnhancedBytes()
        let other = image.elements { $0.element(0x0020, 0x0032, "DS", "9\\9\\9") }
        image.frames = [image.sequence(0x0020, 0x9113, image.sequence(0x0020, 0x9113, other)) + other]
        #expect(try image.record().images[0].image.position == nil)
        // Of two items none is the position.
        image.frames = [image.sequence(0x0020, 0x9113, other, other)]
        #expect(try image.record().images[0].image.position == nil)
    }

    @Test func otherClassesHaveNoFrames() throws {
        var image = EnhancedBytes(sopClass: "1.2.840.10008.5.1.4.1.1.4.1")
        image.frames = [image.position(0)]
        #expect(try image.record().multiFrame == nil)
    }
}
