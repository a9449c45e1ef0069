internal import Foundation

/// What scanners and technologists write, as data. Texts are compared in lower case with accents removed.
enum HeaderVocabulary {
    /// Body Part Examined, PS3.16 Annex L and what scanners send.
    static let headBodyParts: Set<String> = [
        "head", "brain", "skull", "headneck", "head neck", "cranium", "cerebrum", "neuro", "kopf", "schadel", "tete",
        "crane",
        "cabeza", "craneo", "testa", "cranio", "hoofd", "cabeca",
    ]
    /// Parts of the head: a soft-tissue series of one of them does not show the whole brain.
    static let partBodyParts: Set<String> = [
        "face", "orbit", "sinus", "paranasal sinus", "ear", "iac", "temporal bone", "jaw", "maxilla", "mandible", "tmj",
        "nose",
        "dental", "sella",
    ]
    static let unspecifiedBodyParts: Set<String> = [
        "", "unknown", "other", "specials", "whole body", "wholebody", "none", "default",
    ]

    /// English, German, French, Spanish, Portuguese, Italian, Dutch, Swedish, Polish, Turkish, Russian, Japanese,
    /// Chinese.
    static let head = Pattern(wordsFrom: [
        "head", "brain", "cereb", "encephal", "enzephal", "cran[ie]", "skull", "neuro", "stroke", "stereota", "ncct",
        "cct", #"ctb\b"#, "schadel", "kopf", "hirn", "gehirn", #"tete\b"#, "cerveau", "cabe[zc]a", #"testa\b"#,
        "cervell", "hoofd", "hersen", "schedel", "skalle", "huvud", "hjarn", "g[łl]ow", "m[oó]zg", "kafa", "beyin",
        "голов", "мозг", ".*(頭|头|脳|脑)",
    ])
    static let partOfHead = Pattern(wordsFrom: [
        "sinus", "nnh", "paranasal", "orbit", "facial", #"face\b"#, "maxill", "mandib", "mittelgesicht",
        "gesichtsschadel", "denta", "temporal bone", "petrous", "felsenbein", "rocher", #"iac\b"#, "mastoid", "cochlea",
        #"ears?\b"#, "oreille", "tmj", "kiefer", "sella", "pituitar", "hypophys",
    ])
    static let otherBody = Pattern(wordsFrom: [
        "chest", "thora[xc]", "torax", "lung", "lunge", "poumon", "pulmon", "abdom", "pelvi", "becken", "bassin",
        "liver",
        "leber", "renal", "kidney", "urogram", "colon", "spine", "[cl]-?spine", "wirbel", "[hbl]ws", "rachis", "column",
        "cervical", "lumb", "sacr", #"neck\b"#, #"hals\b"#, #"cou\b"#, "cuello", "collo", "knee", "knie", #"hip\b"#,
        "hufte", "shoulder", "schulter", "wrist", "ankle", #"foot\b"#, "femur", "heart", "cardiac", "coronar", "herz",
        "aorta", "whole ?body", "runoff", "extremit",
    ])
    static let angiography = Pattern(wordsFrom: [
        "cta", #"ct-?a\b"#, "angio", #"ctv\b"#, "veno", "perfusion", #"ctp\b"#, "cbf", "cbv", "mtt", "tmax", "bolus",
        "smart ?prep", "sure ?start", "(pre)?monitoring", "carotid", "willis", #"cow\b"#, "aneurysm", "tracker",
        "test ?inj",
    ])
    static let withoutContrast = Pattern(wordsFrom: [
        "without", "w/o", #"wo\b"#, "non", "no (iv )?c", "ohne", "nativ", "sans", "sin ", "senza", "zonder", "plain",
        "unenhanced", "pre[ -]?(c|km)",
    ])
    static let withContrast = Pattern(wordsFrom: [
        #"c\+"#, #"ce\b"#, "contrast", "post[ -]?(c|km|gd)", "(mit|nach) km", #"km\b"#, "avec inj", "injecte",
        // An enhanced conversion is one of single-frame images to Legacy Converted Enhanced CT (highdicom).
        #"with c\b"#, #"w/? ?c\b"#, "enhanced(?! conversion)", #"iv\+"#, "arterial", "venous phase", "delayed",
    ])
    static let boneText = Pattern(wordsFrom: [
        "bone", "knochen", "hueso", "oss", #"os\b"#, "kosc", "kemik", "sharp", "edge",
    ])
    static let derivedText = Pattern(wordsFrom: [
        "mip", "minip", "mpr", "vrt", "3d", #"vr\b"#, "iodine", "jod", "vnc", "virtual non", "mono ?e", #"\d+ ?kev"#,
        "z ?eff", "electron dens", "spectral", "dose", "summary", "exam protocol", "screen ?save", "key image",
        "report",
        "fused", "overlay", #"sag\b"#, "sagit", #"[ck]or\b"#, "[ck]oron", "result",
    ])

    /// Image Type values, as `folded` gives them, that no original axial image has.
    static let localizerTypes: Set<String> = ["localizer", "scout", "surview", "topogram", "scanogram"]
    static let derivedTypes: Set<String> = [
        "mip", "minip", "mpr", "csa mpr", "csamanipulated", "reformatted", "oblique", "projection image", "3d", "vrt",
        "volume rendered", "perfusion", "rcbf", "rcbv", "mtt", "tmax", "subtraction", "screen save", "screensave",
        "iodine", "vnc", "monoenergetic", "dose info", "patient info", "results", "ref surview",
        // PS3.3 C.8.16.1.4, C.8.16.2.1.3: of the frames of enhanced images.
        "maximum", "minimum", "resampled", "division", "multiplication", "masked", "std deviation", "quantity",
        "max ip", "min ip", "curved mpr", "volume render", "surface render",
    ]
    /// PS3.3 C.8.16.1.3: of enhanced images with a contrast agent.
    static let contrastTypes: Set<String> = ["post contrast", "angio"]
    static let noContrast: Set<String> = [
        "", "none", "no", "n", "nein", "non", "aucun", "ninguno", "0", "n/a", "na", "-", "without", "ohne",
    ]

    /// - Returns: whether a Convolution Kernel is one for bone or lung; nil where it is not known.
    static func isBone(kernel: String, manufacturer: String) -> Bool? {
        let name = folded(kernel.split(separator: "\\").first.map(String.init) ?? kernel)
        let maker = folded(manufacturer)
        guard !name.isEmpty else { return nil }
        if maker.contains("philips") {
            if ["yb", "yc", "yd", "ye", "d", "e", "l", "lung"].contains(name) { return true }
            if ["a", "b", "c", "ua", "ub", "uc", "sa", "sb", "brain standard", "standard"].contains(name) {
                return false
            }
        }
        if let number = canonKernel.firstGroup(in: name).flatMap(Int.init) {
            return (30...39).contains(number) || number >= 50
        }
        if let number = siemensKernel.firstGroup(in: name).flatMap(Int.init) { return number >= 56 }
        if ["bone", "boneplus", "bone+", "bone plus", "edge", "lung", "ultra", "hd bone"].contains(where: {
            name.hasPrefix($0)
        }) {
            return true  // GE
        }
        if ["stnd", "standard", "std+", "std", "soft", "detail", "brain", "head"].contains(where: { name.hasPrefix($0) }
        ) {
            return false
        }
        return nil
    }

    /// Lower case, accents removed, underscores and carets as spaces.
    static func folded(_ text: String?) -> String {
        guard let text else { return "" }
        return foldedASCII(text) ?? foldedUnicode(text)
    }

    /// What most header texts are, at a small part of the cost: every instance that arrives is judged.
    private static func foldedASCII(_ text: String) -> String? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for byte in text.utf8 {
            switch byte {
            case 0x80...: return nil
            case UInt8(ascii: "_"), UInt8(ascii: "^"), 0: bytes.append(UInt8(ascii: " "))
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): bytes.append(byte | 0x20)
            default: bytes.append(byte)
            }
        }
        let isSpace = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        guard let first = bytes.firstIndex(where: { !isSpace($0) }), let last = bytes.lastIndex(where: { !isSpace($0) })
        else { return "" }
        return String(decoding: bytes[first...last], as: UTF8.self)
    }

    private static func foldedUnicode(_ text: String) -> String {
        let plain = text.folding(
            options: [.caseInsensitive, .diacriticInsensitive], locale: Locale(identifier: "en_US_POSIX"))
        let spaced = plain.map { "_^\0".contains($0) ? " " : $0 }
        return String(spaced).lowercased().trimmingCharacters(in: .whitespaces)
    }

    /// Toshiba and Canon: FC30 to FC39 bone, from FC50 lung and bone.
    private static let canonKernel = Pattern(#"^fc(\d{2})"#)
    /// Siemens: the number is the sharpness, from H10s to Hr69h.
    private static let siemensKernel = Pattern(#"^[a-z]{1,2}(\d{2})[a-z]{0,2}\b"#)
}

/// A regular expression.
///
/// `@unchecked Sendable` is safe because NSRegularExpression is immutable.
struct Pattern: @unchecked Sendable {
    private let expression: NSRegularExpression?

    /// - Returns: nil where it is no regular expression.
    init?(validating pattern: String) {
        guard let expression = try? NSRegularExpression(pattern: pattern) else { return nil }
        self.expression = expression
    }

    /// One of the terms, each a regular expression, at the beginning of a word; the first group is the term.
    init(wordsFrom terms: [String]) { self.init(#"\b("# + terms.joined(separator: "|") + ")") }

    init(_ pattern: String) {
        expression = try? NSRegularExpression(pattern: pattern)
        assert(expression != nil, "not a regular expression: \(pattern)")
    }

    func matches(_ text: String) -> Bool { first(in: text) != nil }

    func firstGroup(in text: String) -> String? {
        guard let match = first(in: text), match.numberOfRanges > 1, let range = Range(match.range(at: 1), in: text)
        else { return nil }
        return String(text[range])
    }

    private func first(in text: String) -> NSTextCheckingResult? {
        expression?.firstMatch(in: text, range: NSRange(text.startIndex..., in: text))
    }
}
