@testable import DICOM
import WorkerProtocol

/// What the streaming reader has to agree with: the same rules (PS3.5 §7), written down by recursion over bytes that
/// are all there.
struct SlowHeaderReader {
    struct Failure: Error {
        var code: HeaderError.Code
        static let malformed = Failure(code: .malformed)
        static let truncated = Failure(code: .truncated)
    }

    private(set) var values: [Tag: [UInt8]] = [:]
    private(set) var groups = FunctionalGroups()
    private(set) var hasPixelData = false
    /// What was met on the way, to be compared with the limits.
    private(set) var deepest = 0
    private(set) var longestValue = 0
    private(set) var lastEnd = 0

    private let bytes: [UInt8]
    private let syntax: TransferSyntax
    private let limits: ObjectLimits
    private var at = 0
    private var isGuessing = false

    private static let undefined = 0xFFFF_FFFF
    private static let shortRepresentations: Set<String> = [
        "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM",
        "UI", "UL", "US",
    ]

    /// Where elements stand: how they are encoded, where the innermost enclosing defined length ends, how many
    /// sequences enclose them.
    private struct Place {
        var isExplicit: Bool
        var isBigEndian: Bool
        var bound = Int.max
        /// Of the sequences, the outermost first.
        var path: [Tag] = []
        var depth: Int { path.count }
    }

    init(_ bytes: [UInt8], _ syntax: TransferSyntax, _ limits: ObjectLimits) {
        self.bytes = bytes
        self.syntax = syntax
        self.limits = limits
    }

    mutating func read() throws(Failure) {
        let place = Place(isExplicit: syntax.isExplicitVR, isBigEndian: syntax.isBigEndian)
        while !hasPixelData {
            let rest = bytes[at...]
            // Less than a header, all zero: padding.
            if rest.count < 8, rest.allSatisfy({ $0 == 0 }) { return }
            try element(place)
            if !hasPixelData { try checkPlace(place) }
        }
    }

    // MARK: Elements

    private mutating func element(_ place: Place) throws(Failure) {
        let header = try take(8)
        let tag = tag(header, place)
        if tag.group == 0xFFFE { throw .malformed }
        guard place.isExplicit else {
            return try implicitElement(tag, number(header[4..<8], place), place)
        }
        let representation = String(decoding: header[4..<6], as: UTF8.self)
        let isLong =
            header[4..<6].allSatisfy { (0x41...0x5A).contains($0) }
            && !Self.shortRepresentations.contains(representation)
        if isLong {
            if place.bound - at < 4 { throw .malformed }
            try explicitElement(tag, representation, number(try take(4)[...], place), place)
        } else {
            let length = number(header[6..<8], place)
            if isPixelData(tag, place) { return }
            try value(tag, length, place)
        }
    }

    private mutating func explicitElement(
        _ tag: Tag, _ representation: String, _ length: Int, _ place: Place
    ) throws(Failure) {
        if isPixelData(tag, place) { return }
        switch (representation, length) {
        case ("SQ", Self.undefined): try sequence(tag, place, end: nil)
        case ("SQ", _): try sequence(tag, place, end: try end(length, place))
        case ("UN", Self.undefined):
            var within = place
            (within.isExplicit, within.isBigEndian) = (false, false)
            try sequence(tag, within, end: nil)
        case ("OB", Self.undefined), ("OW", Self.undefined), ("OD", Self.undefined), ("OF", Self.undefined),
            ("OL", Self.undefined), ("OV", Self.undefined):
            try fragments(place)
        case (_, Self.undefined): throw .malformed
        default: try value(tag, length, place)
        }
    }

    private mutating func implicitElement(_ tag: Tag, _ length: Int, _ place: Place) throws(Failure) {
        if isPixelData(tag, place) { return }
        if length == Self.undefined {
            return tag.isPixelData ? try fragments(place) : try sequence(tag, place, end: nil)
        }
        if isKept(tag, length, place) || groups.keeps(tag, within: place.path) || length < 8 {
            return try value(tag, length, place)
        }
        let end = try end(length, place)
        let first = try take(4)
        guard first == [0xFE, 0xFF, 0x00, 0xE0] else { return try value(end: end, length) }
        at -= 4
        if isGuessing { return try sequence(tag, place, end: end) }
        isGuessing = true
        defer { isGuessing = false }
        do throws(Failure) { try sequence(tag, place, end: end) } catch {
            guard error.code == .malformed else { throw error }
            groups.abandon(tag)
            // It only looked like a sequence.
            try value(end: end, length)
        }
    }

    private mutating func value(_ tag: Tag, _ length: Int, _ place: Place) throws(Failure) {
        let end = try end(length, place)
        let start = at
        let kept = isKept(tag, length, place)
        // Kept as far as it came, like the streaming reader.
        if kept { values[tag] = [] }
        let inGroup = groups.keeps(tag, within: place.path) && groups.beginValue(tag, length: length)
        try value(end: end, length)
        if kept { values[tag] = Array(bytes[start..<end]) }
        if inGroup { groups.append(tag, bytes[start..<end]) }
    }

    /// Passes over the rest of a value of `length` bytes that ends at `end`.
    private mutating func value(end: Int, _ length: Int) throws(Failure) {
        if length > limits.elementBytes { throw Failure(code: .overLimit) }
        if end > bytes.count { throw .truncated }
        longestValue = max(longestValue, length)
        at = end
    }

    private func isKept(_ tag: Tag, _ length: Int, _ place: Place) -> Bool {
        place.depth == 0 && length <= 4096 && Tag.recorded.contains(tag) && values[tag] == nil
    }

    private mutating func isPixelData(_ tag: Tag, _ place: Place) -> Bool {
        hasPixelData = place.depth == 0 && tag.group == 0x7FE0 && [0x0008, 0x0009, 0x0010].contains(tag.element)
        return hasPixelData
    }

    // MARK: Sequences

    private mutating func sequence(_ tag: Tag, _ place: Place, end: Int?) throws(Failure) {
        var within = place
        within.path.append(tag)
        within.bound = end ?? place.bound
        if within.depth > limits.sequenceDepth { throw Failure(code: .tooDeep) }
        deepest = max(deepest, within.depth)
        while end.map({ at < $0 }) ?? true {
            try checkPlace(within)
            let header = try take(8)
            let next = self.tag(header, within)
            let length = number(header[4..<8], within)
            if next == .sequenceDelimitation, end == nil { return }
            guard next == .item else { throw .malformed }
            let end = length == Self.undefined ? nil : try self.end(length, within)
            if within.depth == 1, FunctionalGroups.roots.contains(tag) { groups.beginItem(of: tag) }
            try item(within, end: end)
        }
    }

    private mutating func item(_ place: Place, end: Int?) throws(Failure) {
        var within = place
        within.bound = end ?? place.bound
        while end.map({ at < $0 }) ?? true {
            try checkPlace(within)
            let isDelimiter =
                bytes.count - at >= 8 && tag(Array(bytes[at..<at + 4]), within) == .itemDelimitation
            guard isDelimiter else {
                try element(within)
                continue
            }
            guard end == nil else { throw .malformed }
            at += 8
            return
        }
    }

    private mutating func fragments(_ place: Place) throws(Failure) {
        while true {
            try checkPlace(place)
            let header = try take(8)
            let tag = tag(header, place)
            if tag == .sequenceDelimitation { return }
            guard tag == .item else { throw .malformed }
            let length = number(header[4..<8], place)
            try value(end: try end(length, place), length)
        }
    }

    // MARK: Bytes

    /// Between two headers.
    private mutating func checkPlace(_ place: Place) throws(Failure) {
        if place.bound - at < 8 { throw .malformed }
        lastEnd = max(lastEnd, at)
        if at > limits.headerBytes { throw Failure(code: .overLimit) }
    }

    private func end(_ length: Int, _ place: Place) throws(Failure) -> Int {
        if at + length > place.bound { throw .malformed }
        if at + length > limits.headerBytes { throw Failure(code: .overLimit) }
        return at + length
    }

    private mutating func take(_ count: Int) throws(Failure) -> [UInt8] {
        if bytes.count - at < count { throw .truncated }
        at += count
        return Array(bytes[at - count..<at])
    }

    private func tag(_ header: [UInt8], _ place: Place) -> Tag {
        Tag(UInt16(number(header[0..<2], place)), UInt16(number(header[2..<4], place)))
    }

    private func number(_ bytes: ArraySlice<UInt8>, _ place: Place) -> Int {
        var value = 0
        for byte in place.isBigEndian ? Array(bytes) : bytes.reversed() { value = value * 256 + Int(byte) }
        return value
    }
}
