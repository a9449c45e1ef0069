import Foundation
import WorkerProtocol

@testable import DICOM

/// Part 10 files in explicit VR little endian, with pixels that tests choose.
struct StoredObject {
    var instance = "1.2.3.4"
    var sourceAETitle = "SCANNER"
    var rows = 4
    var columns = 4
    var bitsAllocated = 16
    var bitsStored = 16
    var isSigned = false
    var photometricInterpretation = "MONOCHROME2"
    var samplesPerPixel = 1
    var frames: Int?
    var slope: String? = "1"
    var intercept: String? = "0"
    var padding: UInt16?
    var pixels: [UInt8] = []

    static func write(instance: String, to path: String) throws {
        var object = StoredObject(instance: instance)
        object.pixels = [UInt8](repeating: 0, count: 32)
        try object.write(to: path)
    }

    func write(to path: String) throws {
        let meta = FileMeta(
            sopClassUID: UID(RawPeer.ct)!, sopInstanceUID: UID(instance)!,
            transferSyntaxUID: UID(RawPeer.explicitLittleEndian)!, sourceAETitle: AETitle(sourceAETitle),
            receivingAETitle: AETitle("ICHNODE"))
        try Data(meta.encoded + dataSet).write(to: URL(fileURLWithPath: path))
    }

    var dataSet: [UInt8] {
        typealias Set = PeerDataSet
        var set = Set.uid(0x0008, 0x0016, RawPeer.ct) + Set.uid(0x0008, 0x0018, instance)
        set += Set.code(0x0008, 0x0060, "CS", "CT")
        set += Set.uid(0x0020, 0x000D, "1.2.3") + Set.uid(0x0020, 0x000E, "1.2.3.1")
        set += Set.short(0x0002, UInt32(samplesPerPixel))
        set += Set.code(0x0028, 0x0004, "CS", photometricInterpretation)
        if let frames { set += Set.code(0x0028, 0x0008, "IS", "\(frames)") }
        set += Set.short(0x0010, UInt32(rows)) + Set.short(0x0011, UInt32(columns))
        set += Set.short(0x0100, UInt32(bitsAllocated)) + Set.short(0x0101, UInt32(bitsStored))
        set += Set.short(0x0102, UInt32(bitsStored - 1)) + Set.short(0x0103, isSigned ? 1 : 0)
        if let padding {
            set += Set.element(0x0028, 0x0120, isSigned ? "SS" : "US", RawPeer.little(UInt32(padding), 2))
        }
        if let intercept { set += Set.code(0x0028, 0x1052, "DS", intercept) }
        if let slope { set += Set.code(0x0028, 0x1053, "DS", slope) }
        return set + Set.element(0x7FE0, 0x0010, bitsAllocated == 8 ? "OB" : "OW", pixels)
    }

    /// Little-endian 16-bit pixels.
    static func words(_ values: [Int]) -> [UInt8] {
        values.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    }
}
