import Foundation
import Testing
import WorkerProtocol

@Suite(.serialized) struct DecodeTests {
    struct Answer {
        var planes: [(plane: DecodedPlane, values: [Int16])] = []
        var failures: [String: String] = [:]
        var records: [String: InstanceRecord] = [:]
    }

    static func ask(
        _ requests: DecodeRequest..., spool: String, between: () throws -> Void = {}
    ) async throws -> Answer {
        let worker = try WorkerProcess(
            WorkerProgram(path: Surroundings.worker, arguments: ["decode", "--spool", spool]))
        try await worker.start()
        var waiting = requests[...]
        try await worker.send(waiting.removeFirst())
        var answer = Answer()
        var expected: DecodedPlane?
        for try await frame in worker.frames {
            switch frame {
            case .bulk(let bytes):
                let values = [UInt8](bytes).withUnsafeBytes { Array($0.bindMemory(to: Int16.self)) }
                if let plane = expected { answer.planes.append((plane, values)) }
                expected = nil
            case .message(let payload):
                switch try JSONDecoder().decode(DecodeEvent.self, from: payload) {
                case .plane(let plane): expected = plane
                case .described(let path, let record): answer.records[path] = record
                case .failed(let path, _, let reason): answer.failures[path] = reason
                case .done where !waiting.isEmpty:
                    try between()
                    try await worker.send(waiting.removeFirst())
                case .done:
                    let ending = await worker.stop()
                    #expect(ending == .exited(code: 0))
                    return answer
                }
            }
        }
        Issue.record("the worker ended: \(await worker.ended())")
        return answer
    }

    /// Decodes one object of the test's making.
    static func decode(_ object: StoredObject) async throws -> (values: [Int16]?, failure: String?) {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/\(object.instance).dcm"
        try object.write(to: path)
        let answer = try await ask(.decode(paths: [path]), spool: folder.path)
        return (answer.planes.first?.values, answer.failures[path])
    }

    static func object(_ values: [Int], _ change: (inout StoredObject) -> Void = { _ in }) -> StoredObject {
        var object = StoredObject()
        object.rows = 1
        object.columns = values.count
        object.pixels = StoredObject.words(values)
        change(&object)
        return object
    }

    @Test func digestIsThatOfTheDataSetWhateverTheMetaHeader() async throws {
        let folder = try TemporaryFolder()
        var object = Self.object([1, 2])
        let paths = ["one", "other"].map { "\(folder.path)/\($0).dcm" }
        try object.write(to: paths[0])
        object.sourceAETitle = "ANOTHER"
        try object.write(to: paths[1])
        let digests = try await Self.ask(.decode(paths: paths), spool: folder.path).planes.map(\.plane.dataSetDigest)
        let (_, dataSet) = try ReceiveTests.dataSet(ofFile: paths[0])
        #expect(digests == Array(repeating: SHA256Digest.hex(of: Data(dataSet)), count: 2))
    }

    // MARK: Hounsfield units

    @Test func rescalesAndClips() async throws {
        let object = Self.object([0, 1, 1000, 65535]) {
            $0.slope = "2"
            $0.intercept = "-1024.5"
        }
        let (values, _) = try await Self.decode(object)
        // Halves go to the even neighbour.
        #expect(values == [-1024, -1022, 976, 32767])
    }

    @Test func missingRescaleIsIdentity() async throws {
        let object = Self.object([-1000, 5]) {
            $0.isSigned = true
            $0.slope = nil
            $0.intercept = nil
        }
        #expect(try await Self.decode(object).values == [-1000, 5])
    }

    @Test func masksTheBitsThatAreNotStored() async throws {
        let unsigned = Self.object([0xF005, 0x0FFF]) {
            $0.bitsStored = 12
            $0.intercept = "-1024"
        }
        #expect(try await Self.decode(unsigned).values == [-1019, 3071])
        let signed = Self.object([0x0FFF, 0x07FF]) {
            $0.bitsStored = 12
            $0.isSigned = true
        }
        #expect(try await Self.decode(signed).values == [-1, 2047])
    }

    @Test func decodesEightBits() async throws {
        let object = Self.object([]) {
            $0.columns = 4
            $0.bitsAllocated = 8
            $0.bitsStored = 8
            $0.pixels = [0, 1, 200, 255]
            $0.intercept = "-100"
        }
        #expect(try await Self.decode(object).values == [-100, -99, 100, 155])
    }

    @Test func paddingBecomesAir() async throws {
        let signed = Self.object([-2000, -1000, 40]) {
            $0.isSigned = true
            $0.padding = UInt16(bitPattern: -2000)
        }
        #expect(try await Self.decode(signed).values == [-1024, -1000, 40])
        // −2000 in 16 bits lies outside of the 12 stored ones.
        let outside = Self.object([0xF830, 1000, 0x0830]) {
            $0.bitsStored = 12
            $0.intercept = "-1024"
            $0.padding = 0xF830
        }
        #expect(try await Self.decode(outside).values == [-1024, -24, 1072])
    }

    @Test func monochrome1HasTheSameUnits() async throws {
        let object = Self.object([0, 1024]) {
            $0.photometricInterpretation = "MONOCHROME1"
            $0.intercept = "-1024"
        }
        #expect(try await Self.decode(object).values == [-1024, 0])
    }

    @Test func unwrapsSignedValuesInTwelveUnsignedBits() async throws {
        let head = [3096, 3095, 3080, 3100, 0, 40, 35, 1000]
        let wrapped = Self.object(head) { $0.bitsStored = 12 }
        #expect(try await Self.decode(wrapped).values == [-1000, -1001, -1016, -996, 0, 40, 35, 1000])
        // With the usual intercept the same values are dense bone and metal.
        let plain = Self.object(head) {
            $0.bitsStored = 12
            $0.intercept = "-1024"
        }
        #expect(try await Self.decode(plain).values?.first == 2072)
        // A little metal in an image clipped at zero is no wrap.
        let metal = Self.object([0, 0, 0, 0, 40, 35, 3100]) { $0.bitsStored = 12 }
        #expect(try await Self.decode(metal).values?.last == 3100)
    }

    @Test func decodesEveryFrame() async throws {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/1.2.3.4.dcm"
        let object = Self.object([1, 2]) {
            $0.frames = 3
            $0.pixels = StoredObject.words([1, 2, 3, 4, 5, 6])
        }
        try object.write(to: path)
        let planes = try await Self.ask(.decode(paths: [path]), spool: folder.path).planes
        #expect(planes.map(\.values) == [[1, 2], [3, 4], [5, 6]])
        #expect(planes.map(\.plane.frame) == [0, 1, 2])
        #expect(planes.allSatisfy { $0.plane.frameCount == 3 && $0.plane.rows == 1 && $0.plane.columns == 2 })
    }

    @Test func decodesTheFramesThatAreAskedFor() async throws {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/1.2.3.4.dcm"
        var object = Self.object([1, 2]) {
            $0.frames = 3
            $0.pixels = StoredObject.words([1, 2, 3, 4, 5, 6])
        }
        try object.write(to: path)
        let asked = [3, 1, 2, 1, 0, 4, -1, .max, .min].map { FrameLocation(path: path, number: $0) }
        let answer = try await Self.ask(.decode(frames: asked), spool: folder.path)
        #expect(answer.planes.map(\.values) == [[5, 6], [1, 2], [3, 4], [1, 2]])
        #expect(answer.planes.map(\.plane.frame) == [2, 0, 1, 0])
        #expect(Set(answer.planes.map(\.plane.dataSetDigest)).count == 1)
        #expect(answer.failures == [path: "no such frame"])
        // Another file of the same name is opened anew.
        let first = DecodeRequest.decode(frames: [FrameLocation(path: path, number: 1)])
        let twice = try await Self.ask(first, first, spool: folder.path) {
            object.pixels = StoredObject.words([7, 8, 9, 10, 11, 12])
            try object.write(to: "\(path).new")
            #expect(rename("\(path).new", path) == 0)
        }
        #expect(twice.planes.map(\.values) == [[1, 2], [7, 8]])
        #expect(Set(twice.planes.map(\.plane.dataSetDigest)).count == 2)
    }

    // MARK: Refusals

    @Test func refusesColourShortDataAndSizesOverTheLimit() async throws {
        let colour = Self.object([1, 2]) { $0.photometricInterpretation = "RGB" }
        #expect(try await Self.decode(colour).failure == "not a monochrome image")
        let samples = Self.object([1, 2]) { $0.samplesPerPixel = 3 }
        #expect(try await Self.decode(samples).failure == "not a monochrome image")
        let short = Self.object([1, 2]) { $0.rows = 2 }
        #expect(try await Self.decode(short).failure?.contains("shorter") == true)
        let wide = Self.object([1, 2]) { $0.columns = DecodeLimits.rowsOrColumns + 1 }
        #expect(try await Self.decode(wide).failure?.contains("limit") == true)
        let many = Self.object([1, 2]) { $0.frames = DecodeLimits.frames + 1 }
        #expect(try await Self.decode(many).failure?.contains("limit") == true)
        let large = Self.object([1, 2]) {
            $0.rows = DecodeLimits.rowsOrColumns
            $0.columns = DecodeLimits.rowsOrColumns
            $0.frames = 33
        }
        #expect(try await Self.decode(large).failure?.contains("limit") == true)
        let flat = Self.object([1, 2]) { $0.slope = "0" }
        #expect(try await Self.decode(flat).failure?.contains("slope") == true)
    }

    @Test func oneBadFileDoesNotSpoilTheOthers() async throws {
        let folder = try TemporaryFolder()
        let good = "\(folder.path)/good.dcm"
        let deep = "\(folder.path)/deep.dcm"
        let noise = "\(folder.path)/noise.dcm"
        try Self.object([1, 2]).write(to: good)
        var bytes = try Data(contentsOf: URL(fileURLWithPath: good)).dropLast(16)
        bytes.append(contentsOf: PeerDataSet.nested(20_000))
        try bytes.write(to: URL(fileURLWithPath: deep))
        try Data(repeating: 1, count: 5000).write(to: URL(fileURLWithPath: noise))
        let paths = [deep, noise, "\(folder.path)/missing.dcm", "/etc/passwd", "\(folder.path)/../x", good]
        let answer = try await Self.ask(.decode(paths: paths), spool: folder.path)
        #expect(answer.failures.count == 5)
        #expect(answer.failures[deep]?.contains("nested") == true)
        #expect(answer.planes.map(\.plane.path) == [good])
    }

    /// Whatever a stored file holds, the worker says something or dies alone.
    @Test func survivesMutatedFiles() async throws {
        let folder = try TemporaryFolder()
        var original = Self.object(Array(0..<64))
        original.rows = 8
        original.columns = 8
        let path = "\(folder.path)/o.dcm"
        try original.write(to: path)
        let valid = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        var state: UInt64 = 88_172_645_463_325_252
        let random = { (bound: Int) -> Int in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(bound))
        }
        var paths: [String] = []
        for number in 0..<DecodeRequest.mostFrames {
            var bytes = valid
            for _ in 0..<4 { bytes[132 + random(valid.count - 132)] = UInt8(random(256)) }
            paths.append("\(folder.path)/m\(number).dcm")
            try Data(bytes).write(to: URL(fileURLWithPath: paths[number]))
        }
        let answer = try await Self.ask(.decode(paths: paths), spool: folder.path)
        let answered = Set(answer.planes.map(\.plane.path)).union(answer.failures.keys)
        #expect(answered == Set(paths))
    }

    // MARK: Describing

    @Test func describesWhatIsStored() async throws {
        let folder = try TemporaryFolder()
        let first = "\(folder.path)/1.2.3.4.dcm"
        let second = "\(folder.path)/1.2.3.4.v2.dcm"
        try Self.object([1, 2]).write(to: first)
        try Self.object([3, 4]).write(to: second)
        let answer = try await Self.ask(.describe(paths: [first, second]), spool: folder.path)
        let record = try #require(answer.records[first])
        #expect(record.version == 1)
        #expect(record.callingAETitle == AETitle("SCANNER"))
        #expect(record.calledAETitle == AETitle("ICHNODE"))
        #expect(record.sopInstanceUID.string == "1.2.3.4")
        #expect(record.fileSize == (try Data(contentsOf: URL(fileURLWithPath: first))).count)
        #expect(answer.records[second]?.version == 2)
    }

    @Test func describesWhatReceiveRecorded() async throws {
        let node = try ReceivingNode()
        let (events, _) = try await node.serveRaw { peer in
            _ = try peer.associate(ReceiveTests.ctContext)
            _ = try peer.store(sopInstance: "1.2.3.4", dataSet: PeerDataSet.ct())
            try peer.release()
        }
        let answer = try await Self.ask(.describe(paths: node.stored), spool: node.studies)
        #expect(answer.records.values.map { $0 } == events.records)
    }

    // MARK: Transfer syntaxes

    /// Largest difference to the uncompressed slice that lossy compression at the rate used may make, HU.
    static let tolerances: [String: Int] = [
        "1.2.840.10008.1.2.4.50": 100, "1.2.840.10008.1.2.4.51": 50, "1.2.840.10008.1.2.4.53": 50,
        "1.2.840.10008.1.2.4.55": 50, "1.2.840.10008.1.2.4.81": 2, "1.2.840.10008.1.2.4.91": 10,
    ]

    @Test(.enabled(if: Surroundings.sharedDICOM != nil, "needs the shared DICOM objects"))
    func everyTransferSyntaxGivesTheSameSlice() async throws {
        let folder = try #require(Surroundings.sharedDICOM) + "/transfer-syntaxes"
        let paths = Surroundings.files("transfer-syntaxes").filter { $0.contains("/CTImage.dcm") }
        let answer = try await Self.ask(.decode(paths: paths), spool: folder)
        #expect(answer.failures.isEmpty)
        let reference = try #require(answer.planes.first { $0.plane.path.hasSuffix("/CTImage.dcm") }).values
        #expect(answer.planes.count >= 15)
        for (plane, values) in answer.planes {
            let syntax = plane.path.split(separator: "_").last.map { String($0).replacing(".dcm", with: "") } ?? ""
            let worst = zip(values, reference).map { abs(Int($0) - Int($1)) }.max() ?? .max
            #expect(worst <= Self.tolerances[syntax, default: 0], "\(plane.path)")
        }
    }

    @Test(.enabled(if: Surroundings.sharedDICOM != nil, "needs the shared DICOM objects"))
    func joinsFragmentsWithoutAnOffsetTable() async throws {
        let folder = try #require(Surroundings.sharedDICOM) + "/transfer-syntaxes"
        let paths = ["CT0012.fragmented_no_bot_jpeg_baseline.51.dcm", "CT1_J2KR", "CT2_J2KR"].map { "\(folder)/\($0)" }
        let answer = try await Self.ask(.decode(paths: paths), spool: folder)
        #expect(answer.failures.isEmpty)
        #expect(Set(answer.planes.map(\.plane.path)) == Set(paths))
        #expect(answer.planes.first?.plane.frameCount == 2)
        #expect(answer.planes.count == 4)
        // Frames in any order are the same.
        let asked = [2, 1, 2].map { FrameLocation(path: paths[0], number: $0) }
        let alone = try await Self.ask(.decode(frames: asked), spool: folder)
        #expect(alone.failures.isEmpty)
        let whole = answer.planes.filter { $0.plane.path == paths[0] }
        #expect(whole.count == 2 && whole[0].values != whole[1].values)
        #expect(alone.planes.map(\.values) == [1, 0, 1].map { whole[$0].values })
    }
}
