internal import WorkerProtocol

/// Walks the elements of a data set as its bytes arrive, in pieces of any size (PS3.5 §7): keeps the values of
/// `Tag.recorded` at the top level, and of functional groups; follows sequences with a stack of its own (never by
/// recursion), stops at Pixel Data.
///
/// Everything a sender controls is checked against what encloses it and against `ObjectLimits` before it is believed.
struct ElementScanner {
    /// Longest value that is kept. What is longer is passed over, as if it were absent.
    static let mostKeptBytes = 4096

    private(set) var isComplete = false
    private(set) var hasPixelData = false
    /// Length of Pixel Data as declared; nil where undefined (encapsulated) or absent.
    private(set) var pixelDataLength: Int?
    private(set) var values: [Tag: [UInt8]] = [:]
    private(set) var groups = FunctionalGroups()
    /// Bytes taken, which is a place in the data set.
    private(set) var offset = 0

    private struct Frame {
        enum Kind { case sequence, item, fragments }
        var kind: Kind
        /// Of a sequence.
        var tag: Tag
        var isExplicitVR: Bool
        var isBigEndian: Bool
        /// Where it ends; nil for undefined length, which a delimiter ends.
        var end: Int?
        /// Where the innermost enclosing defined length ends: nothing within may reach beyond.
        var bound: Int
    }

    private enum Step {
        /// The bytes of an element's tag, VR and length.
        case header
        /// The first four bytes of a value in implicit VR, which tell a sequence.
        case peek(Tag, valueLength: Int)
        case keep(Tag, remaining: Int)
        case keepInGroup(Tag, remaining: Int)
        case skip(remaining: Int)
    }

    private let syntax: TransferSyntax
    private let limits: ObjectLimits
    private var stack: [Frame] = []
    private var sequenceDepth = 0
    private var step = Step.header
    private var pending: [UInt8] = []
    private var needed = Self.shortHeader
    /// In implicit VR a value that begins like an item is followed as a sequence; where that fails it was none.
    private var guess: Guess?

    private struct Guess {
        var stackCount: Int
        var length: Int
        var end: Int
    }

    private static let shortHeader = 8
    private static let longHeader = 12
    private static let tagBytes = 4
    private static let undefinedLength = 0xFFFF_FFFF

    init(syntax: TransferSyntax, limits: ObjectLimits) {
        self.syntax = syntax
        self.limits = limits
        pending.reserveCapacity(Self.longHeader)
        stack.reserveCapacity(16)
    }

    mutating func consume(_ bytes: UnsafeRawBufferPointer) throws(HeaderError) {
        var at = 0
        while at < bytes.count, !isComplete {
            let piece = UnsafeRawBufferPointer(rebasing: bytes[at...])
            do throws(HeaderError) {
                at += try take(piece)
            } catch {
                guard error.code == .malformed, let guess else { throw error }
                // Bytes taken for the header that failed count as skipped: `offset` moved with them.
                at += takenByFailure
                try abandon(guess)
            }
            takenByFailure = 0
        }
    }

    /// To be called when the data set has ended.
    func finish() throws(HeaderError) {
        if isComplete { return }
        let betweenElements = if case .header = step { pending.allSatisfy { $0 == 0 } } else { false }
        guard stack.isEmpty, betweenElements else {
            throw HeaderError(.truncated, "the data set ends within an element", offset: offset)
        }
    }

    /// What `take` had used of its bytes when it threw.
    private var takenByFailure = 0

    /// - Returns: how many bytes it used, at least one.
    private mutating func take(_ bytes: UnsafeRawBufferPointer) throws(HeaderError) -> Int {
        switch step {
        case .skip(let remaining):
            let count = min(remaining, bytes.count)
            advance(count)
            if count < remaining { step = .skip(remaining: remaining - count) } else { try elementEnded() }
            return count
        case .keep(let tag, let remaining):
            let count = min(remaining, bytes.count)
            values[tag, default: []].append(contentsOf: bytes[..<count])
            advance(count)
            if count < remaining { step = .keep(tag, remaining: remaining - count) } else { try elementEnded() }
            return count
        case .keepInGroup(let tag, let remaining):
            let count = min(remaining, bytes.count)
            groups.append(tag, bytes[..<count])
            advance(count)
            if count < remaining { step = .keepInGroup(tag, remaining: remaining - count) } else { try elementEnded() }
            return count
        case .header, .peek:
            let count = min(needed - pending.count, bytes.count)
            pending.append(contentsOf: bytes[..<count])
            advance(count)
            if pending.count == needed { try pendingIsWhole() }
            return count
        }
    }

    private mutating func advance(_ count: Int) {
        offset += count
        takenByFailure = count
    }

    private mutating func pendingIsWhole() throws(HeaderError) {
        if case .peek(let tag, let valueLength) = step { return try peeked(tag, valueLength) }
        guard let frame = stack.last else {
            return try element(explicit: syntax.isExplicitVR, bigEndian: syntax.isBigEndian)
        }
        switch frame.kind {
        case .sequence, .fragments: try item(in: frame)
        case .item: try element(explicit: frame.isExplicitVR, bigEndian: frame.isBigEndian)
        }
    }

    // MARK: Sequences

    private mutating func item(in frame: Frame) throws(HeaderError) {
        let tag = tag(bigEndian: frame.isBigEndian)
        let length = number(at: 4, bytes: 4, bigEndian: frame.isBigEndian)
        if tag == .sequenceDelimitation, frame.end == nil {
            pop()
            return try elementEnded()
        }
        guard tag == .item else { throw malformed("something other than an item in a sequence") }
        if frame.kind == .fragments { return try skip(length) }
        let end = length == Self.undefinedLength ? nil : try end(of: length)
        stack.append(
            Frame(
                kind: .item, tag: .item, isExplicitVR: frame.isExplicitVR, isBigEndian: frame.isBigEndian, end: end,
                bound: end ?? frame.bound))
        if stack.count == 2, FunctionalGroups.roots.contains(frame.tag) { groups.beginItem(of: frame.tag) }
        try elementEnded()
    }

    private mutating func push(
        _ kind: Frame.Kind, _ tag: Tag, explicit: Bool, bigEndian: Bool, end: Int?
    ) throws(HeaderError) {
        if kind == .sequence {
            sequenceDepth += 1
            guard sequenceDepth <= limits.sequenceDepth else {
                throw HeaderError(
                    .tooDeep, "sequences nested deeper than \(limits.sequenceDepth)", offset: offset)
            }
        }
        stack.append(
            Frame(
                kind: kind, tag: tag, isExplicitVR: explicit, isBigEndian: bigEndian, end: end, bound: end ?? bound))
    }

    private mutating func pop() {
        if let frame = stack.popLast(), frame.kind == .sequence { sequenceDepth -= 1 }
    }

    private var bound: Int { stack.last?.bound ?? Int.max }

    /// An element, item or sequence of defined length is over: closes what ends here, and asks for the next header.
    private mutating func elementEnded() throws(HeaderError) {
        while let end = stack.last?.end, offset >= end { pop() }
        if let guess, stack.count <= guess.stackCount { self.guess = nil }
        pending.removeAll(keepingCapacity: true)
        needed = Self.shortHeader
        step = .header
        guard bound - offset >= Self.shortHeader else { throw malformed("an element reaches beyond what encloses it") }
        // Items and delimiters count too.
        guard offset <= limits.headerBytes else { throw headerOverLimit() }
    }

    // MARK: Elements

    private mutating func element(explicit: Bool, bigEndian: Bool) throws(HeaderError) {
        let tag = tag(bigEndian: bigEndian)
        if tag.group == Tag.item.group { return try delimiter(tag) }
        guard explicit else {
            let length = number(at: 4, bytes: 4, bigEndian: bigEndian)
            return try implicitElement(tag, length: length, bigEndian: bigEndian)
        }
        let representation = ValueRepresentation(pending[4], pending[5])
        if representation.hasLongLength, pending.count == Self.shortHeader {
            guard bound - offset >= Self.longHeader - Self.shortHeader else {
                throw malformed("an element reaches beyond what encloses it")
            }
            needed = Self.longHeader
            return
        }
        let length =
            representation.hasLongLength
            ? number(at: 8, bytes: 4, bigEndian: bigEndian) : number(at: 6, bytes: 2, bigEndian: bigEndian)
        try explicitElement(tag, representation, length: length, bigEndian: bigEndian)
    }

    private mutating func delimiter(_ tag: Tag) throws(HeaderError) {
        guard tag == .itemDelimitation, let frame = stack.last, frame.kind == .item, frame.end == nil else {
            throw malformed("a delimiter where an element was due")
        }
        pop()
        try elementEnded()
    }

    private mutating func implicitElement(_ tag: Tag, length: Int, bigEndian: Bool) throws(HeaderError) {
        if reachesPixelData(tag, length: length) { return }
        if length == Self.undefinedLength {
            // Without VR nothing but a sequence has undefined length, save encapsulated pixels (PS3.5 Annex A.4).
            try push(tag.isPixelData ? .fragments : .sequence, tag, explicit: false, bigEndian: bigEndian, end: nil)
            return try elementEnded()
        }
        if keeps(tag, length: length) || keepsInGroup(tag) || length < Self.shortHeader {
            return try value(tag, length: length)
        }
        _ = try end(of: length)
        pending.removeAll(keepingCapacity: true)
        needed = Self.tagBytes
        step = .peek(tag, valueLength: length)
    }

    private mutating func peeked(_ tag: Tag, _ valueLength: Int) throws(HeaderError) {
        guard self.tag(bigEndian: false) == .item else {
            try checkElement(valueLength)
            step = .skip(remaining: valueLength - Self.tagBytes)
            return
        }
        let end = offset - Self.tagBytes + valueLength
        let enclosing = stack.count
        try push(.sequence, tag, explicit: false, bigEndian: false, end: end)
        if guess == nil { guess = Guess(stackCount: enclosing, length: valueLength, end: end) }
        // The four bytes stay: they begin the item's header.
        needed = Self.shortHeader
        step = .header
    }

    private mutating func explicitElement(
        _ tag: Tag, _ representation: ValueRepresentation, length: Int, bigEndian: Bool
    ) throws(HeaderError) {
        if reachesPixelData(tag, length: length) { return }
        guard length == Self.undefinedLength, representation.hasLongLength else {
            guard representation == .sequence else { return try value(tag, length: length) }
            try push(.sequence, tag, explicit: true, bigEndian: bigEndian, end: end(of: length))
            return try elementEnded()
        }
        switch representation {
        case .sequence: try push(.sequence, tag, explicit: true, bigEndian: bigEndian, end: nil)
        // PS3.5 §6.2.2: a sequence in implicit VR little endian, whatever surrounds it.
        case .unknown: try push(.sequence, tag, explicit: false, bigEndian: false, end: nil)
        case _ where representation.canBeFragments:
            try push(.fragments, tag, explicit: true, bigEndian: bigEndian, end: nil)
        default: throw malformed("undefined length with a value representation that has none")
        }
        try elementEnded()
    }

    private mutating func reachesPixelData(_ tag: Tag, length: Int) -> Bool {
        guard stack.isEmpty, tag.isPixelData else { return false }
        isComplete = true
        hasPixelData = true
        pixelDataLength = length == Self.undefinedLength ? nil : length
        return true
    }

    // MARK: Values

    private func keeps(_ tag: Tag, length: Int) -> Bool {
        stack.isEmpty && length <= Self.mostKeptBytes && Tag.recorded.contains(tag) && values[tag] == nil
    }

    private mutating func value(_ tag: Tag, length: Int) throws(HeaderError) {
        if keepsInGroup(tag) { return try valueInGroup(tag, length: length) }
        guard keeps(tag, length: length) else { return try skip(length) }
        _ = try end(of: length)
        try checkElement(length)
        values[tag] = []
        if length == 0 { return try elementEnded() }
        step = .keep(tag, remaining: length)
    }

    /// Items and sequences take turns on the stack.
    private func keepsInGroup(_ tag: Tag) -> Bool {
        guard let root = stack.first?.tag, FunctionalGroups.roots.contains(root), stack.last?.kind == .item else {
            return false
        }
        return groups.keeps(tag, within: stride(from: 0, to: stack.count, by: 2).map { stack[$0].tag })
    }

    private mutating func valueInGroup(_ tag: Tag, length: Int) throws(HeaderError) {
        _ = try end(of: length)
        try checkElement(length)
        guard groups.beginValue(tag, length: length) else { return try skip(length) }
        if length == 0 { return try elementEnded() }
        step = .keepInGroup(tag, remaining: length)
    }

    private mutating func skip(_ length: Int) throws(HeaderError) {
        _ = try end(of: length, isValue: true)
        if length == 0 { return try elementEnded() }
        step = .skip(remaining: length)
    }

    /// To be called where the value is known to fit into what encloses it: what does not is malformed, and no sequence
    /// where it was a guess.
    private func checkElement(_ length: Int) throws(HeaderError) {
        guard length <= limits.elementBytes else {
            throw HeaderError(
                .overLimit, "an element of \(length) bytes is over the limit of \(limits.elementBytes)", offset: offset)
        }
    }

    /// Where `length` bytes from here end.
    /// - Parameter isValue: they are one value, and not a sequence or item.
    private func end(of length: Int, isValue: Bool = false) throws(HeaderError) -> Int {
        let end = offset + length
        guard end <= bound else { throw malformed("an element reaches beyond what encloses it") }
        if isValue { try checkElement(length) }
        guard end <= limits.headerBytes else { throw headerOverLimit() }
        return end
    }

    private func headerOverLimit() -> HeaderError {
        HeaderError(.overLimit, "the header is over the limit of \(limits.headerBytes) bytes", offset: offset)
    }

    /// The guess that a value is a sequence was wrong: passes over the rest of the value.
    private mutating func abandon(_ guess: Guess) throws(HeaderError) {
        try checkElement(guess.length)
        if stack.count > guess.stackCount { groups.abandon(stack[guess.stackCount].tag) }
        while stack.count > guess.stackCount { pop() }
        self.guess = nil
        let remaining = guess.end - offset
        if remaining > 0 { step = .skip(remaining: remaining) } else { try elementEnded() }
    }

    // MARK: Bytes

    private func tag(bigEndian: Bool) -> Tag {
        Tag(
            UInt16(number(at: 0, bytes: 2, bigEndian: bigEndian)), UInt16(number(at: 2, bytes: 2, bigEndian: bigEndian))
        )
    }

    private func number(at start: Int, bytes count: Int, bigEndian: Bool) -> Int {
        let bytes = pending[start..<start + count]
        return bigEndian
            ? bytes.reduce(0) { $0 << 8 | Int($1) } : bytes.reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    private func malformed(_ reason: String) -> HeaderError { HeaderError(.malformed, reason, offset: offset) }
}

/// What the header reader has to know of a value representation (PS3.5 §6.2, §7.1.2).
struct ValueRepresentation: Hashable {
    private let letters: UInt16

    init(_ first: UInt8, _ second: UInt8) { letters = UInt16(first) << 8 | UInt16(second) }
    private init(_ text: StaticString) {
        self.init(text.utf8Start[0], text.utf8Start[1])
    }

    static let sequence = ValueRepresentation("SQ")
    static let unknown = ValueRepresentation("UN")
    private static let short: Set<ValueRepresentation> = [
        "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM",
        "UI", "UL", "US",
    ]
    private static let fragmentable: Set<ValueRepresentation> = ["OB", "OW", "OD", "OF", "OL", "OV"]

    /// Four bytes of length after two reserved ones: so has every representation that is not in the short list and
    /// looks like one, so that later additions to the standard are read.
    var hasLongLength: Bool {
        let capitals = UInt16(UInt8(ascii: "A"))...UInt16(UInt8(ascii: "Z"))
        return capitals.contains(letters >> 8) && capitals.contains(letters & 0xFF) && !Self.short.contains(self)
    }

    /// May hold encapsulated fragments: pixels of an icon, for example (PS3.5 Annex A.4).
    var canBeFragments: Bool { Self.fragmentable.contains(self) }
}

extension ValueRepresentation: ExpressibleByStringLiteral {
    init(stringLiteral text: StaticString) { self.init(text) }
}
