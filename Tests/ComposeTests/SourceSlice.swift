import Foundation
import WorkerProtocol

/// A CT slice as a Part 10 file, Explicit VR Little Endian (PS3.5 §7.1.2), written byte by byte: with text in any
/// character set, and with what a careful library would refuse to write.
struct SourceSlice {
    var studyUID = SourceSlice.uid(0)
    var seriesUID = SourceSlice.uid(1)
    var sopUID = SourceSlice.uid(2)
    var instanceNumber = 1
    /// Specific Character Set; nil: absent.
    var characterSet: String? = "ISO_IR 100"
    var patientName = Data("PHANTOM^HEAD".utf8)
    var rows = 16
    var columns = 16
    var hasPlane = true
    var isLossy = false
    /// Sequences within sequences.
    var nesting = 0
    var studyDate = "20240506"
    var frameOfReferenceUID = "\(SourceSlice.uid(9))"

    static let sopClassUID = UID(literal: "1.2.840.10008.5.1.4.1.1.2")

    static func uid(_ number: Int) -> UID { UID("2.25.4711000\(number)")! }

    /// A series of one study; instance numbers from 1.
    static func series(count: Int) -> [SourceSlice] {
        (0..<count).map { SourceSlice(sopUID: uid(100 + $0), instanceNumber: $0 + 1) }
    }

    var reference: ImageReference {
        ImageReference(sopClassUID: Self.sopClassUID, sopInstanceUID: sopUID, seriesInstanceUID: seriesUID)
    }

    func write(in folder: URL) throws -> String {
        let path = folder.appendingPathComponent("\(sopUID).dcm").path
        try encoded().write(to: URL(fileURLWithPath: path))
        return path
    }

    func encoded() -> Data {
        var meta = Data()
        meta.element(0x0002, 0x0001, "OB", Data([0, 1]))
        meta.element(0x0002, 0x0002, "UI", "\(Self.sopClassUID)")
        meta.element(0x0002, 0x0003, "UI", "\(sopUID)")
        meta.element(0x0002, 0x0010, "UI", "1.2.840.10008.1.2.1")
        meta.element(0x0002, 0x0012, "UI", "2.25.4711")
        var file = Data(count: 128) + Data("DICM".utf8)
        file.element(0x0002, 0x0000, "UL", Data.littleEndian(UInt32(meta.count)))
        return file + meta + dataSet()
    }

    private func dataSet() -> Data {
        var item = Data()
        if let characterSet { item.element(0x0008, 0x0005, "CS", characterSet) }
        item.element(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL")
        item.element(0x0008, 0x0016, "UI", "\(Self.sopClassUID)")
        item.element(0x0008, 0x0018, "UI", "\(sopUID)")
        item.element(0x0008, 0x0020, "DA", studyDate)
        item.element(0x0008, 0x0030, "TM", "070809.5")
        item.element(0x0008, 0x0050, "SH", "A0001")
        item.element(0x0008, 0x0060, "CS", "CT")
        item.element(0x0008, 0x0070, "LO", "Synthetic")
        item.element(0x0008, 0x0090, "PN", "DOCTOR^REFERRING")
        item.element(0x0008, 0x0201, "SH", "-0330")
        item.element(0x0008, 0x1030, "LO", "CT HEAD")
        if nesting > 0 { item.append(Self.nested(nesting)) }
        item.element(0x0010, 0x0010, "PN", patientName)
        item.element(0x0010, 0x0020, "LO", "PHANTOM-1")
        item.element(0x0010, 0x0021, "LO", "EXAMPLE HOSPITAL")
        item.element(0x0010, 0x0030, "DA", "19500101")
        item.element(0x0010, 0x0040, "CS", "O")
        item.element(0x0020, 0x000D, "UI", "\(studyUID)")
        item.element(0x0020, 0x000E, "UI", "\(seriesUID)")
        item.element(0x0020, 0x0010, "SH", "S1")
        item.element(0x0020, 0x0013, "IS", "\(instanceNumber)")
        if hasPlane {
            item.element(0x0020, 0x0032, "DS", "-10\\-20\\\(instanceNumber * 5)")
            item.element(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0")
            item.element(0x0020, 0x0052, "UI", frameOfReferenceUID)
        }
        item.element(0x0028, 0x0010, "US", Data.littleEndian(UInt16(rows)))
        item.element(0x0028, 0x0011, "US", Data.littleEndian(UInt16(columns)))
        if hasPlane { item.element(0x0028, 0x0030, "DS", "0.5\\0.5") }
        if isLossy {
            item.element(0x0028, 0x2110, "CS", "01")
            item.element(0x0028, 0x2112, "DS", "10.5")
            item.element(0x0028, 0x2114, "CS", "ISO_10918_1")
        }
        item.element(0x7FE0, 0x0010, "OW", Data(count: rows * columns * 2))
        return item
    }

    /// Referenced Study Sequence within itself, undefined lengths.
    private static func nested(_ depth: Int) -> Data {
        var bytes = Data()
        for _ in 0..<depth {
            bytes += Data([0x08, 0x00, 0x10, 0x11]) + Data("SQ".utf8) + Data([0, 0, 0xFF, 0xFF, 0xFF, 0xFF])
            bytes += Data([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF])
        }
        for _ in 0..<depth {
            bytes += Data([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0])
        }
        return bytes
    }
}

extension Data {
    static func littleEndian(_ value: some FixedWidthInteger) -> Data {
        Swift.withUnsafeBytes(of: value.littleEndian) { Data($0) }
    }

    fileprivate mutating func element(_ group: UInt16, _ number: UInt16, _ vr: String, _ value: String) {
        element(group, number, vr, Data(value.utf8))
    }

    fileprivate mutating func element(_ group: UInt16, _ number: UInt16, _ vr: String, _ value: Data) {
        let padding = value.count.isMultiple(of: 2) ? Data() : Data([vr == "UI" ? 0 : 0x20])
        let length = value.count + padding.count
        append(Data.littleEndian(group) + Data.littleEndian(number) + Data(vr.utf8))
        if ["OB", "OW", "SQ", "UN"].contains(vr) {
            append(Data([0, 0]) + Data.littleEndian(UInt32(length)))
        } else {
            append(Data.littleEndian(UInt16(length)))
        }
        append(value + padding)
    }
}
