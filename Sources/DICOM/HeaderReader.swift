public import WorkerProtocol

/// Reads the header of a data set, all before Pixel Data, from the bytes as they arrive. Used by one thread at a time.
///
/// Safe on hostile input: nesting, element and header sizes and the ratio of inflation are bounded by `ObjectLimits`.
public final class HeaderReader {
    private var scanner: ElementScanner
    private let limits: ObjectLimits
    private let isDeflated: Bool
    private let inflater: Inflater?
    private var deflatedBytes = 0
    private var inflatedBytes = 0
    private let syntax: TransferSyntax

    /// The first bytes of any stream may inflate to this much, whatever the ratio.
    private static let ratioGrace = 1 << 20

    public init(transferSyntax: TransferSyntax, limits: ObjectLimits) {
        syntax = transferSyntax
        scanner = ElementScanner(syntax: transferSyntax, limits: limits)
        self.limits = limits
        isDeflated = transferSyntax.isDeflated
        inflater = isDeflated ? Inflater() : nil
    }

    /// Pixel Data was reached; later bytes are ignored.
    public var isComplete: Bool { scanner.isComplete }
    public var hasPixelData: Bool { scanner.hasPixelData }
    /// Length of Pixel Data as declared; nil where undefined (encapsulated) or absent.
    public var pixelDataLength: Int? { scanner.pixelDataLength }
    /// - Returns: nil where the header was not read as far as that, or is of another instance.
    public func studyInstanceUID(of instance: UID) -> UID? {
        let values = values
        // What comes after it has begun: it is whole.
        guard values.code(.sopInstanceUID) == instance.string, values.code(.seriesInstanceUID) != nil else {
            return nil
        }
        return values.code(.studyInstanceUID).flatMap { UID($0) }
    }

    /// The attributes read so far.
    public var values: HeaderValues { HeaderValues(values: scanner.values, isBigEndian: syntax.isBigEndian) }

    var functionalGroups: FunctionalGroups { scanner.groups }

    public func consume(_ bytes: UnsafeRawBufferPointer) throws(HeaderError) {
        if scanner.isComplete || bytes.isEmpty { return }
        guard isDeflated else { return try scanner.consume(bytes) }
        guard let inflater else { throw HeaderError(.overLimit, "out of memory") }
        deflatedBytes += bytes.count
        let sound = try inflater.inflate(bytes) { (inflated) throws(HeaderError) -> Bool in
            inflatedBytes += inflated.count
            guard inflatedBytes <= Self.ratioGrace + deflatedBytes * limits.deflateRatio else {
                throw HeaderError(.overLimit, "the deflated stream inflates beyond \(limits.deflateRatio) to 1")
            }
            try scanner.consume(inflated)
            return !scanner.isComplete
        }
        guard sound else { throw HeaderError(.malformed, "the deflated stream is corrupt", offset: scanner.offset) }
    }

    /// To be called when the data set has ended.
    public func finish() throws(HeaderError) { try scanner.finish() }
}
