/// The range of CT numbers that the node works with.
public enum Hounsfield {
    public static let air: Int16 = -1024
    public static let range: ClosedRange<Int16> = -1024...3071
}

/// One CT image in Hounsfield units.
public struct Plane: Sendable, Equatable {
    /// Rows or columns.
    public static let mostSide = 4096

    public let rows: Int
    public let columns: Int
    /// [row][column], HU, in −1024…3071; padding is −1024.
    public let values: [Int16]

    /// - Parameter values: [row][column], HU; what lies outside −1024…3071 is clipped.
    /// - Throws: `ModelError` with code `slice` where the number of values does not fit.
    public init(rows: Int, columns: Int, values: [Int16]) throws {
        let sides = 1...Self.mostSide
        guard sides.contains(rows), sides.contains(columns), values.count == rows * columns else {
            throw ModelError(.slice, "\(values.count) pixels are no image of \(rows) rows and \(columns) columns")
        }
        self.rows = rows
        self.columns = columns
        let range = Hounsfield.range
        self.values = values.map { min(max($0, range.lowerBound), range.upperBound) }
    }

    /// - Parameter littleEndian: int16 little-endian [row][column], HU: a bulk frame of the decode worker.
    public init(rows: Int, columns: Int, littleEndian bytes: some Collection<UInt8>) throws {
        guard bytes.count.isMultiple(of: 2) else {
            throw ModelError(.slice, "an odd number of bytes for 16-bit pixels")
        }
        let values = [Int16](unsafeUninitializedCapacity: bytes.count / 2) { buffer, count in
            count = buffer.count
            _ = UnsafeMutableRawBufferPointer(buffer).initializeMemory(as: UInt8.self, from: bytes)
            for index in 0..<count { buffer[index] = Int16(littleEndian: buffer[index]) }
        }
        try self.init(rows: rows, columns: columns, values: values)
    }
}
