import DICOM
import Foundation
import WorkerProtocol
@testable import DICOMWorker

#if canImport(FuzzSupport)
import FuzzSupport
#endif

/// Decoding of one stored file, as `ichnode-dicom decode` does it. Input: the file, preamble and all.
public enum PixelsCheck {
    /// More is within the limits, but takes too long for here.
    private static let mostPixels = 1 << 20

    private static let folder: String = {
        let name = "/ichnode-fuzz-\(ProcessInfo.processInfo.processIdentifier)"
        let path = FileManager.default.temporaryDirectory.path + name
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try? Library.prepare(needsDictionary: true, decodesPixels: true)
        return path
    }()

    public static func check(_ input: [UInt8]) throws {
        let path = folder + "/object.dcm"
        try Data(input).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let first = try decoded(path)
        // Values that depend on what memory held before differ from one time to the next.
        let second = try decoded(path)
        try require(first == second, "decodes to other values the second time")
    }

    /// nil where the file is refused.
    private static func decoded(_ path: String) throws -> [Int16]? {
        do {
            try StoredFile(path: path, below: folder).checkBeforeDecoding()
            let image = try ImageDecoder(path: path)
            try require(
                (1...DecodeLimits.rowsOrColumns).contains(image.rows)
                    && (1...DecodeLimits.rowsOrColumns).contains(image.columns)
                    && (1...DecodeLimits.frames).contains(image.frames)
                    && image.rows * image.columns * image.frames * 2 <= DecodeLimits.decodedBytes,
                "\(image.frames) frames of \(image.rows) rows and \(image.columns) columns")
            guard image.rows * image.columns * image.frames <= mostPixels else { return nil }
            var all: [Int16] = []
            for frame in 0..<image.frames {
                var values = [Int16](repeating: 0, count: image.rows * image.columns)
                try values.withUnsafeMutableBufferPointer { try image.decode(frame: frame, into: $0) }
                all += values
            }
            return all
        } catch let error as WorkerError {
            try require(error.code == .failed, "\(error)")
            return nil
        }
    }
}
