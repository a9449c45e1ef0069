/// Resizes the square crop of a plane with a separable antialiased triangle filter, float32, as
/// `torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=False)` does.
struct TriangleResize: Sendable {
    /// Weights of the input pixels that make one output pixel.
    private struct Taps: Sendable {
        var start: Int
        var weights: [Float]
    }

    let input: Int
    let output: Int
    private let taps: [Taps]

    init(from input: Int, to output: Int) {
        self.input = input
        self.output = output
        let scale = Float(input) / Float(output)
        let support = max(scale, 1)
        let inverse = scale >= 1 ? 1 / scale : 1
        taps = (0..<output).map { index in
            let centre = scale * (Float(index) + 0.5)
            let start = max(Int(centre - support + 0.5), 0)
            let end = min(Int(centre + support + 0.5), input)
            let raw = (start..<max(end, start + 1)).map { place in
                max(0, 1 - abs((Float(place) - centre + 0.5) * inverse))
            }
            let total = raw.reduce(0, +)
            return Taps(start: start, weights: total > 0 ? raw.map { $0 / total } : raw)
        }
    }

    /// - Parameters:
    ///   - values: [row][column], HU.
    ///   - box: the crop; its size is `input`. Pixels outside the image are air.
    /// - Returns: [output row][output column], HU.
    func resize(_ values: [Float], rows: Int, columns: Int, box: StudyBox) -> [Float] {
        let air = Float(Hounsfield.air)
        var line = [Float](repeating: air, count: input)
        var narrow = [Float](repeating: air, count: input * output)
        let inside = max(0, box.x)..<max(max(0, box.x), min(columns, box.x + input))
        for y in 0..<input {
            let row = y + box.y
            guard row >= 0, row < rows, !inside.isEmpty else { continue }
            for x in inside { line[x - box.x] = values[row * columns + x] }
            apply(to: line) { narrow[y * output + $0] = $1 }
        }
        return vertical(narrow)
    }

    private func apply(to line: [Float], store: (Int, Float) -> Void) {
        line.withUnsafeBufferPointer { line in
            for (index, tap) in taps.enumerated() {
                var sum: Float = 0
                tap.weights.withUnsafeBufferPointer { weights in
                    for place in 0..<weights.count { sum += line[tap.start + place] * weights[place] }
                }
                store(index, sum)
            }
        }
    }

    private func vertical(_ narrow: [Float]) -> [Float] {
        var result = [Float](repeating: 0, count: output * output)
        result.withUnsafeMutableBufferPointer { result in
            narrow.withUnsafeBufferPointer { narrow in
                for (index, tap) in taps.enumerated() {
                    for (place, weight) in tap.weights.enumerated() {
                        let row = (tap.start + place) * output
                        for x in 0..<output { result[index * output + x] += narrow[row + x] * weight }
                    }
                }
            }
        }
        return result
    }
}
