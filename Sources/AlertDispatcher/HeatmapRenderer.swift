internal import Foundation

/// One slice to be drawn: pixels, and where the model looked.
public struct HeatmapSlice: Sendable {
    public var rows: Int
    public var columns: Int
    /// [row][column], HU.
    public var hounsfield: [Int16]
    /// [row][column], 0…1, in the slice's own pixels.
    public var activation: [Float]
    /// 0…1.
    public var probability: Double
    public var instanceNumber: Int

    public init(
        rows: Int, columns: Int, hounsfield: [Int16], activation: [Float], probability: Double, instanceNumber: Int
    ) {
        self.rows = rows
        self.columns = columns
        self.hounsfield = hounsfield
        self.activation = activation
        self.probability = probability
        self.instanceNumber = instanceNumber
    }
}

/// Draws a slice in the brain window with the class activation over it, a legend, and the mark of research use.
///
/// The picture has the slice's own rows and columns, since it carries the slice's plane.
public struct HeatmapRenderer: Sendable {
    /// Brain window, HU.
    static let level: Float = 40
    static let width: Float = 80
    /// Activation below which nothing is drawn, and the opacity of full activation: anatomy stays visible beneath.
    static let floor: Float = 0.15
    private static let mostOpacity: Float = 0.6

    public init() {}

    /// - Returns: RGB, 8 bits a sample, [row][column][R,G,B].
    public func render(_ slice: HeatmapSlice) -> [UInt8] {
        var canvas = overlay(slice)
        drawLegend(slice, on: &canvas)
        return canvas.pixels
    }

    /// The slice and its activation, without legend.
    func overlay(_ slice: HeatmapSlice) -> Canvas {
        precondition(slice.hounsfield.count == slice.rows * slice.columns, "pixels of another size")
        precondition(slice.activation.count == slice.rows * slice.columns, "activation of another size")
        var canvas = Canvas(rows: slice.rows, columns: slice.columns)
        for index in 0..<(slice.rows * slice.columns) {
            let grey = (Float(slice.hounsfield[index]) - Self.level) / Self.width + 0.5
            canvas.set(index, Colour(grey: max(0, min(1, grey))))
            let activation = max(0, min(1, slice.activation[index]))
            guard let (colour, opacity) = Self.shade(activation) else { continue }
            canvas.blend(index, colour, opacity)
        }
        return canvas
    }

    /// What is laid over a pixel; nil: nothing.
    /// - Parameter activation: 0…1.
    package static func shade(_ activation: Float) -> (colour: Colour, opacity: Float)? {
        guard activation > floor else { return nil }
        return (ColourMap.heat.colour(at: activation), mostOpacity * (activation - floor) / (1 - floor))
    }

    private func drawLegend(_ slice: HeatmapSlice, on canvas: inout Canvas) {
        let scale = max(1, min(slice.rows, slice.columns) / 256)
        let line = (BitmapFont.height + 2) * scale
        let margin = 3 * scale
        canvas.write("AI HEATMAP  IMAGE \(slice.instanceNumber)", row: margin, column: margin, scale: scale)
        canvas.write(
            String(format: "PROBABILITY %.2f", slice.probability), row: margin + line, column: margin, scale: scale)
        // A slice can be flagged without any that is drawn.
        canvas.write(
            String(format: "ACTIVATION UP TO %.2f", max(0, min(1, slice.activation.max() ?? 0))),
            row: margin + 2 * line, column: margin, scale: scale)
        let marks = Self.marks(columns: slice.columns - margin, scale: scale)
        for (index, mark) in marks.reversed().enumerated() {
            let row = slice.rows - margin - BitmapFont.height * scale - index * line
            canvas.write(mark, row: row, column: margin, scale: scale)
        }
        drawScale(on: &canvas, scale: scale, margin: margin)
    }

    /// In two lines where one would be cut off.
    private static func marks(columns: Int, scale: Int) -> [String] {
        let mark = "RESEARCH USE - NOT FOR DIAGNOSIS"
        return mark.count * BitmapFont.advance * scale <= columns ? [mark] : ["RESEARCH USE", "NOT FOR DIAGNOSIS"]
    }

    /// A bar of the colour map at the right edge, 1 at the top.
    private func drawScale(on canvas: inout Canvas, scale: Int, margin: Int) {
        let length = canvas.rows / 3
        let thickness = 5 * scale
        let top = (canvas.rows - length) / 2
        let left = canvas.columns - margin - thickness
        guard left > 0, length > 1 else { return }
        for row in 0..<length {
            let value = 1 - Float(row) / Float(length - 1)
            for column in 0..<thickness {
                canvas.set((top + row) * canvas.columns + left + column, ColourMap.heat.colour(at: value))
            }
        }
        let text = BitmapFont.advance * scale
        canvas.write("1", row: top, column: left - text, scale: scale)
        canvas.write("0", row: top + length - BitmapFont.height * scale, column: left - text, scale: scale)
    }
}

/// Perceptually ordered from dark violet over red to pale yellow: lightness rises with the value, so that it reads
/// without colour vision too.
struct ColourMap: Sendable {
    private let stops: [Colour]

    static let heat = ColourMap(stops: [
        Colour(0.13, 0.03, 0.33), Colour(0.34, 0.06, 0.43), Colour(0.55, 0.13, 0.41), Colour(0.75, 0.21, 0.33),
        Colour(0.90, 0.34, 0.20), Colour(0.98, 0.52, 0.04), Colour(0.98, 0.73, 0.14), Colour(0.98, 0.94, 0.52),
    ])

    /// - Parameter value: 0…1.
    func colour(at value: Float) -> Colour {
        let position = max(0, min(1, value)) * Float(stops.count - 1)
        let lower = min(Int(position), stops.count - 2)
        let share = position - Float(lower)
        let (from, to) = (stops[lower], stops[lower + 1])
        return Colour(
            from.red + (to.red - from.red) * share, from.green + (to.green - from.green) * share,
            from.blue + (to.blue - from.blue) * share)
    }
}
