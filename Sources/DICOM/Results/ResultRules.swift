internal import WorkerProtocol

/// What content has to be before it becomes a DICOM object. A writer would encode the rest without complaint, and a
/// viewer or archive would stumble later.
enum ResultRules {
    static func check(_ report: ReportContent) throws {
        try checkHeader(of: report)
        try require(!report.imageLibrary.isEmpty, "a report needs an image library")
        try require(report.imageLibrary.count <= ReportWriter.mostImages, "more images than a report may name")
        try require(report.flaggedSlices.count <= ReportWriter.mostImages, "more slices than a report may flag")
        try require(report.flaggedSlices.isEmpty || report.presence != .absent, "flagged slices in a negative report")
        try require(report.predecessor == nil || report.revision > 1, "a first report supersedes none")
        try require(report.studyProbability != nil || report.presence == .undetermined, "a finding without probability")
        try (report.imageLibrary + report.flaggedSlices.map(\.image)).forEach(checkFrames(of:))
        let values = [report.studyProbability ?? 0] + report.flaggedSlices.flatMap { [$0.probability, $0.attention] }
        try require(values.allSatisfy { (0...1).contains($0) }, "a probability or attention is not within 0 to 1")
        for (name, text) in [
            ("algorithm name", report.algorithmName), ("algorithm version", report.algorithmVersion),
            ("algorithm parameters", report.algorithmParameters), ("comment", report.comment),
        ] {
            try require(!text.isEmpty && isText(text), "\(name) is empty or holds control characters")
        }
    }

    static func check(_ capture: CaptureContent) throws {
        try checkHeader(of: capture)
        let sizes = 1...CaptureWriter.mostRowsOrColumns
        try require(
            sizes.contains(capture.rows) && sizes.contains(capture.columns),
            "rows or columns of a capture over the limit")
        try capture.sources.map(\.image).forEach(checkFrames(of:))
        try require(capture.sources.allSatisfy { $0.image.frames.count <= 1 }, "a capture is over one frame")
        let counts = capture.kind == .heatmap ? 1...1 : 1...CaptureWriter.mostSources
        try require(counts.contains(capture.sources.count), "a capture is over one slice, a summary over some")
        try require(Int32(exactly: capture.instanceNumber) != nil, "instance number out of range")
        // ST and LT, PS3.5 §6.2
        try require(
            capture.derivationDescription.unicodeScalars.count <= 1024 && isText(capture.derivationDescription),
            "derivation description is too long or holds control characters")
        try require(
            capture.imageComments.unicodeScalars.count <= 10_240 && isText(capture.imageComments),
            "image comments are too long or hold control characters")
    }

    static func check(_ keyObjects: KeyObjectContent) throws {
        try checkHeader(of: keyObjects)
        try require(!keyObjects.images.isEmpty, "key objects without an object")
        try require(keyObjects.images.count <= KeyObjectWriter.mostImages, "more key objects than a document may name")
        try keyObjects.images.forEach(checkFrames(of:))
        try require(
            !keyObjects.description.isEmpty && isText(keyObjects.description),
            "description is empty or holds control characters")
    }

    static func require(_ condition: Bool, _ reason: String, file: StaticString = #fileID, line: UInt = #line) throws {
        guard condition else { throw WorkerError(.failed, reason, file: file, line: line) }
    }

    /// Referenced Frame Number (PS3.3 Table 10-3) counts from 1.
    private static func checkFrames(of image: ImageReference) throws {
        try require(
            image.frames.count <= MultiFrame.mostFrames
                && image.frames.allSatisfy((1...MultiFrame.mostFrames).contains),
            "a frame number out of range")
    }

    private static func checkHeader(of content: some ResultContent) throws {
        let (date, timezone, device) = (content.contentDate, content.timezoneOffset, content.device)
        try require((1...9999).contains(content.revision), "revision out of range")
        try require(date.utf8.count == 8 && date.utf8.allSatisfy(isDigit), "content date is not of the form YYYYMMDD")
        try require(isTime(content.contentTime), "content time is not of the form HHMMSS.FFFFFF")
        try require(timezone.isEmpty || isTimezone(timezone), "time zone offset is not of the form ±HHMM")
        for (name, text, most, mayBeEmpty) in [
            ("manufacturer", device.manufacturer, 64, false), ("model name", device.modelName, 64, false),
            ("serial number", device.serialNumber, 64, false), ("software version", device.softwareVersion, 64, false),
            ("station name", device.stationName, 16, true),
        ] {
            // LO and SH, PS3.5 §6.2: a backslash would make two values of it.
            try require(
                (mayBeEmpty || !text.isEmpty) && text.unicodeScalars.count <= most && isText(text)
                    && !text.contains("\\"),
                "the device's \(name) is empty, over \(most) characters, or holds a backslash or control character")
        }
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private static func isTime(_ text: String) -> Bool {
        let parts = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count <= 2, parts[0].count == 6, parts.allSatisfy({ $0.allSatisfy(isDigit) }) else { return false }
        return parts.count == 1 || (1...6).contains(parts[1].count)
    }

    private static func isTimezone(_ text: String) -> Bool {
        text.utf8.count == 5 && (text.hasPrefix("+") || text.hasPrefix("-"))
            && text.utf8.dropFirst().allSatisfy(isDigit)
    }

    /// Line ends are allowed in running text; no other control characters.
    private static func isText(_ text: String) -> Bool {
        text.unicodeScalars.allSatisfy {
            $0 == "\n" || $0 == "\r" || ($0.value >= 0x20 && !(0x7F...0x9F).contains($0.value))
        }
    }
}
