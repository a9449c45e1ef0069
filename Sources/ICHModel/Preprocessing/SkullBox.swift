/// Inclusive bounding box in pixels of the largest bone component of one slab.
struct SkullBox: Sendable, Equatable {
    var x0: Int
    var y0: Int
    var x1: Int
    var y1: Int
    var size: Int { max(x1 - x0 + 1, y1 - y0 + 1) }

    /// The largest 4-connected component above `threshold`: most pixels, of equals the one whose first pixel in
    /// row-major order comes first. Nil where no pixel exceeds the threshold.
    ///
    /// - Parameter values: [row][column], HU.
    static func find(in values: [Float], rows: Int, columns: Int, threshold: Float) -> SkullBox? {
        var runs = Runs()
        values.withUnsafeBufferPointer { pixels in
            var above = 0..<0
            for row in 0..<rows {
                let start = runs.count
                runs.append(
                    row: UnsafeBufferPointer(rebasing: pixels[(row * columns)..<((row + 1) * columns)]), at: row,
                    threshold)
                runs.join(above, start..<runs.count)
                above = start..<runs.count
            }
        }
        return runs.largest()
    }
}

/// Horizontal runs of pixels above the threshold, in row-major order, joined to components whose root is their first
/// run.
private struct Runs {
    private var row: [Int32] = []
    private var first: [Int32] = []
    private var last: [Int32] = []
    private var parent: [Int] = []
    var count: Int { row.count }

    mutating func append(row pixels: UnsafeBufferPointer<Float>, at y: Int, _ threshold: Float) {
        var x = 0
        while x < pixels.count {
            guard pixels[x] > threshold else {
                x += 1
                continue
            }
            let start = x
            while x < pixels.count, pixels[x] > threshold { x += 1 }
            row.append(Int32(y))
            first.append(Int32(start))
            last.append(Int32(x - 1))
            parent.append(parent.count)
        }
    }

    /// Joins runs of a row to those of the row above that share a column.
    mutating func join(_ above: Range<Int>, _ below: Range<Int>) {
        var (i, j) = (above.lowerBound, below.lowerBound)
        while i < above.upperBound, j < below.upperBound {
            if first[i] <= last[j], first[j] <= last[i] {
                let (a, b) = (root(i), root(j))
                parent[max(a, b)] = min(a, b)
            }
            if last[i] < last[j] { i += 1 } else { j += 1 }
        }
    }

    private mutating func root(_ index: Int) -> Int {
        var index = index
        while parent[index] != index {
            parent[index] = parent[parent[index]]
            index = parent[index]
        }
        return index
    }

    mutating func largest() -> SkullBox? {
        var pixels = [Int](repeating: 0, count: count)
        var boxes = [SkullBox?](repeating: nil, count: count)
        for index in 0..<count {
            let (y, x0, x1) = (Int(row[index]), Int(first[index]), Int(last[index]))
            let root = root(index)
            pixels[root] += x1 - x0 + 1
            let box = boxes[root] ?? SkullBox(x0: x0, y0: y, x1: x1, y1: y)
            boxes[root] = SkullBox(x0: min(box.x0, x0), y0: min(box.y0, y), x1: max(box.x1, x1), y1: max(box.y1, y))
        }
        var best = -1
        for index in 0..<count where pixels[index] > (best < 0 ? 0 : pixels[best]) { best = index }
        return best < 0 ? nil : boxes[best]
    }
}
