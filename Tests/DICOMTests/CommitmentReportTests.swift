import Testing
import WorkerProtocol

@testable import DICOM

/// Event Information of N-EVENT-REPORT (PS3.4 Table J.3-2).
@Suite struct CommitmentReportTests {
    static let transaction = UID("2.25.77")!

    private static func sequence(
        _ set: DataSetBytes, _ element: UInt32, items: [[UInt8]], defined: Bool
    ) -> [UInt8] {
        var whole = set
        let undefined = DataSetBytes.undefined
        var content = DataSetBytes(explicit: set.isExplicitVR)
        for item in items {
            content.header(0xFFFE, 0xE000, "", length: defined ? UInt32(item.count) : undefined)
            content.append(item)
            if !defined { content.header(0xFFFE, 0xE00D, "", length: 0) }
        }
        if !defined { content.header(0xFFFE, 0xE0DD, "", length: 0) }
        whole.header(0x0008, element, "SQ", length: defined ? UInt32(content.bytes.count) : undefined)
        whole.append(content.bytes)
        return whole.bytes
    }

    private static func item(
        explicit: Bool, _ instance: String, reason: UInt32? = nil, nested: Bool = false
    ) -> [UInt8] {
        var item = DataSetBytes(explicit: explicit)
        item.element(0x0008, 0x1150, "UI", DataSetBytes.sopClass)
        item.element(0x0008, 0x1155, "UI", instance)
        if let reason { item.short(0x0008, 0x1197, reason) }
        guard nested else { return item.bytes }
        var inner = DataSetBytes(explicit: explicit)
        inner.element(0x0008, 0x1155, "UI", "9.9.9")
        return Self.sequence(item, 0x1140, items: [inner.bytes], defined: false)
    }

    static func dataSet(explicit: Bool, defined: Bool, padding: Int = 0) -> [UInt8] {
        var set = DataSetBytes(explicit: explicit)
        set.element(0x0008, 0x1195, "UI", transaction.string)
        let failed = [item(explicit: explicit, "1.2.5", reason: 0x0112), item(explicit: explicit, "1.2.77")]
        set.append(sequence(DataSetBytes(explicit: explicit), 0x1198, items: failed, defined: defined))
        let kept = [item(explicit: explicit, "1.2.33", nested: true), item(explicit: explicit, "1.2.4")]
        set.append(sequence(DataSetBytes(explicit: explicit), 0x1199, items: kept, defined: defined))
        if padding > 0 { set.element(0x0009, 0x1001, "OB", [UInt8](repeating: 1, count: padding)) }
        return set.bytes
    }

    static let expected = CommitmentReport(
        transactionUID: transaction, committed: [UID("1.2.33")!, UID("1.2.4")!],
        failed: [
            .init(sopInstanceUID: UID("1.2.5")!, reason: 0x0112), .init(sopInstanceUID: UID("1.2.77")!, reason: nil),
        ])

    private func read(_ bytes: [UInt8], explicit: Bool) -> CommitmentReport? {
        CommitmentReport(dataSet: bytes, syntax: explicit ? .explicitLittleEndian : .implicitLittleEndian)
    }

    @Test(arguments: [true, false], [true, false])
    func readsBothSequencesInEitherSyntaxAndKindOfLength(explicit: Bool, defined: Bool) {
        #expect(read(Self.dataSet(explicit: explicit, defined: defined), explicit: explicit) == Self.expected)
    }

    @Test(arguments: [true, false], [true, false])
    func whatIsCutOrChangedIsReadOrRefused(explicit: Bool, defined: Bool) {
        let valid = Self.dataSet(explicit: explicit, defined: defined)
        for count in 0..<valid.count { #expect(read(Array(valid.prefix(count)), explicit: explicit) != Self.expected) }
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<4000 {
            var bytes = valid
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            _ = read(bytes, explicit: explicit)
        }
    }

    @Test func deepNestingIsNoRecursion() {
        var set = DataSetBytes(explicit: false)
        for _ in 0..<50_000 {
            set.header(0x0008, 0x1140, "SQ", length: DataSetBytes.undefined)
            set.header(0xFFFE, 0xE000, "", length: DataSetBytes.undefined)
        }
        #expect(read(set.bytes, explicit: false) == nil)
    }

    @Test func anItemWithoutAnInstanceIsRefused() {
        var set = DataSetBytes()
        set.element(0x0008, 0x1195, "UI", Self.transaction.string)
        set.append(Self.sequence(DataSetBytes(), 0x1199, items: [[]], defined: true))
        #expect(read(set.bytes, explicit: true) == nil)
    }

    @Test func statusesSayWhatIsWrong() {
        func status(_ instance: String, _ event: UInt16?, _ bytes: [UInt8]) -> UInt16? {
            let result = CommitmentReport.read(
                instance: instance, eventTypeID: event, dataSet: bytes, syntax: .explicitLittleEndian)
            if case .failure(let refusal) = result { return refusal.status.code }
            return nil
        }
        let (pushModel, valid) = ("1.2.840.10008.1.20.1.1", Self.dataSet(explicit: true, defined: true))
        #expect(status(pushModel, 1, valid) == nil)
        #expect(status(pushModel, 2, valid) == nil)
        #expect(status("1.2.3", 1, valid) == 0x0112)
        #expect(status(pushModel, 0, valid) == 0x0113)
        #expect(status(pushModel, 3, valid) == 0x0113)
        #expect(status(pushModel, nil, valid) == 0x0113)
        #expect(status(pushModel, 1, []) == 0x0110)
        // At the limit, and beyond.
        let rest = CommitmentReport.mostBytes - valid.count - 12
        #expect(status(pushModel, 1, Self.dataSet(explicit: true, defined: true, padding: rest)) == nil)
        #expect(status(pushModel, 1, Self.dataSet(explicit: true, defined: true, padding: rest + 1)) == 0x0110)
    }
}
