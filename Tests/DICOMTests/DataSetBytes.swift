/// Writes data sets byte by byte, well-formed or not, for the tests.
struct DataSetBytes {
    var isExplicitVR = true
    var isBigEndian = false
    private(set) var bytes: [UInt8] = []

    static let undefined: UInt32 = 0xFFFF_FFFF
    private static let long: Set<String> = ["OB", "OW", "SQ", "UN", "UT"]

    init(explicit: Bool = true, bigEndian: Bool = false) {
        isExplicitVR = explicit
        isBigEndian = bigEndian
    }

    func number(_ number: UInt32, bytes count: Int) -> [UInt8] {
        let little = (0..<count).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
        return isBigEndian ? little.reversed() : little
    }

    mutating func header(_ group: UInt32, _ element: UInt32, _ representation: String, length: UInt32) {
        bytes += number(group, bytes: 2) + number(element, bytes: 2)
        guard isExplicitVR, group != 0xFFFE else {
            bytes += number(length, bytes: 4)
            return
        }
        bytes += Array(representation.utf8)
        bytes += Self.long.contains(representation) ? [0, 0] + number(length, bytes: 4) : number(length, bytes: 2)
    }

    mutating func element(_ group: UInt32, _ element: UInt32, _ representation: String, _ value: [UInt8]) {
        header(group, element, representation, length: UInt32(value.count))
        bytes += value
    }

    /// Padded to even length with a NUL for UI, else with a space.
    mutating func element(_ group: UInt32, _ element: UInt32, _ representation: String, _ text: String) {
        var value = Array(text.utf8)
        if !value.count.isMultiple(of: 2) { value.append(representation == "UI" ? 0 : 0x20) }
        self.element(group, element, representation, value)
    }

    mutating func short(_ group: UInt32, _ element: UInt32, _ value: UInt32) {
        self.element(group, element, "US", number(value, bytes: 2))
    }

    mutating func append(_ more: [UInt8]) { bytes += more }

    static let sopClass = "1.2.840.10008.5.1.4.1.1.2"
    static let sopInstance = "1.2.3.4"
    static let study = "1.2.3"
    static let series = "1.2.3.1"

    /// A small CT header, up to Pixel Data. `insertion` is placed between group 0018 and 0020.
    static func ct(explicit: Bool = true, bigEndian: Bool = false, insertion: [UInt8] = []) -> [UInt8] {
        var set = DataSetBytes(explicit: explicit, bigEndian: bigEndian)
        set.element(0x0008, 0x0005, "CS", "ISO_IR 100")
        set.element(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL")
        set.element(0x0008, 0x0016, "UI", sopClass)
        set.element(0x0008, 0x0018, "UI", sopInstance)
        set.element(0x0008, 0x0060, "CS", "CT")
        set.element(0x0010, 0x0010, "PN", [0x4D, 0xFC, 0x6C, 0x6C, 0x65, 0x72])
        set.element(0x0010, 0x0020, "LO", "")
        set.element(0x0018, 0x0050, "DS", "5")
        set.append(insertion)
        set.element(0x0020, 0x000D, "UI", study)
        set.element(0x0020, 0x000E, "UI", series)
        set.element(0x0020, 0x0013, "IS", "+7")
        set.element(0x0020, 0x0032, "DS", "-125\\-1.25e2\\ 7.5")
        set.short(0x0028, 0x0010, 512)
        set.short(0x0028, 0x0011, 256)
        set.element(0x7FE0, 0x0010, "OW", [1, 2, 3, 4])
        return set.bytes
    }

    /// Sequences within sequences, defined or undefined length, as a value to insert.
    static func nested(_ depth: Int, explicit: Bool = true, defined: Bool = false, representation: String = "SQ")
        -> [UInt8]
    {
        guard defined else {
            var opening = DataSetBytes(explicit: explicit)
            opening.header(0x0018, 0x9346, representation, length: undefined)
            opening.header(0xFFFE, 0xE000, "", length: undefined)
            var closing = DataSetBytes(explicit: explicit)
            closing.header(0xFFFE, 0xE00D, "", length: 0)
            closing.header(0xFFFE, 0xE0DD, "", length: 0)
            return Array(repeatElement(opening.bytes, count: depth).joined())
                + Array(repeatElement(closing.bytes, count: depth).joined())
        }
        // From outside in: the lengths are known, so that depth costs no time squared.
        let headerBytes = explicit ? 12 : 8
        var set = DataSetBytes(explicit: explicit)
        for level in (0..<depth).reversed() {
            let itemLength = level * (headerBytes + 8)
            set.header(0x0018, 0x9346, representation, length: UInt32(itemLength + 8))
            set.header(0xFFFE, 0xE000, "", length: UInt32(itemLength))
        }
        return set.bytes
    }
}

/// SplitMix64: the same numbers on each run.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
