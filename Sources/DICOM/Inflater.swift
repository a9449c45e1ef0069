internal import CDCMTK

/// Owns a `cdcmtk_inflater *`.
final class Inflater {
    private let handle: OpaquePointer
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    init?() {
        guard let handle = cdcmtk_inflater_new() else { return nil }
        self.handle = handle
    }

    deinit { cdcmtk_inflater_free(handle) }

    /// Passes on what `bytes` inflate to, until `body` returns false.
    /// - Returns: false where the stream is corrupt.
    func inflate<E: Error>(
        _ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) throws(E) -> Bool
    ) throws(E) -> Bool {
        var next = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        var left = bytes.count
        while true {
            let written = cdcmtk_inflater_step(handle, &next, &left, &buffer, buffer.count)
            if written < 0 { return false }
            if written == 0 { return true }
            // Goes on with no input left: output may be waiting, or the end of a corrupt stream.
            guard try pass(written, body) else { return true }
        }
    }

    private func pass<E: Error>(_ count: Int, _ body: (UnsafeRawBufferPointer) throws(E) -> Bool) throws(E) -> Bool {
        let result = buffer.withUnsafeBytes { bytes -> Result<Bool, E> in
            do throws(E) { return .success(try body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
