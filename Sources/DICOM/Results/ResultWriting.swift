internal import CDCMTK
internal import WorkerProtocol

/// What writing of result objects needs once, before the process gives up the file system.
public enum ResultWriting {
    /// - Throws: `WorkerError` with code `system` where the data dictionary or character set conversion is missing.
    public static func prepare() throws {
        cdcmtk_library_prepare()
        try withReason(.system) { cdcmtk_compose_prepare($0, $1) == 0 }
    }

    /// Calls a shim function with room for its reason; throws that when the function says false.
    static func withReason(
        _ code: WorkerError.Code, _ body: (UnsafeMutablePointer<CChar>, Int) -> Bool
    ) throws {
        var reason = [CChar](repeating: 0, count: 256)
        let done = reason.withUnsafeMutableBufferPointer { body($0.baseAddress!, $0.count) }
        guard !done else { return }
        let text = reason.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        throw WorkerError(code, String(decoding: text, as: UTF8.self))
    }

    /// Calls a shim function that encodes a file.
    static func encoded(
        _ body: (UnsafeMutablePointer<cdcmtk_encoded>, UnsafeMutablePointer<CChar>, Int) -> Int32
    ) throws -> [UInt8] {
        var file = cdcmtk_encoded()
        defer { cdcmtk_encoded_free(&file) }
        try withReason(.failed) { body(&file, $0, $1) == 0 }
        return Array(UnsafeBufferPointer(start: file.bytes, count: file.count))
    }
}

/// C strings that live as long as the value.
final class ContentStrings {
    private var strings: [UnsafeMutablePointer<CChar>] = []
    private var numbers: [UnsafeMutablePointer<Int32>] = []

    func callAsFunction(_ text: String) -> UnsafePointer<CChar> {
        let bytes = text.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        bytes.withUnsafeBufferPointer { copy.initialize(from: $0.baseAddress!, count: $0.count) }
        strings.append(copy)
        return UnsafePointer(copy)
    }

    func callAsFunction(_ uid: UID) -> UnsafePointer<CChar> { self(uid.string) }

    func callAsFunction(_ image: ImageReference) -> cdcmtk_image_reference {
        let frames = UnsafeMutablePointer<Int32>.allocate(capacity: image.frames.count)
        for (index, frame) in image.frames.enumerated() { (frames + index).initialize(to: Int32(frame)) }
        numbers.append(frames)
        return cdcmtk_image_reference(
            sop_class_uid: self(image.sopClassUID), sop_instance_uid: self(image.sopInstanceUID),
            series_instance_uid: self(image.seriesInstanceUID), frames: frames, frame_count: image.frames.count)
    }

    func callAsFunction(_ device: Device) -> cdcmtk_device {
        cdcmtk_device(
            manufacturer: self(device.manufacturer), model_name: self(device.modelName),
            serial_number: self(device.serialNumber), software_version: self(device.softwareVersion),
            device_uid: self(device.deviceUID), station_name: self(device.stationName))
    }

    func callAsFunction(headerOf content: some ResultContent) -> cdcmtk_result_header {
        cdcmtk_result_header(
            sop_instance_uid: self(content.sopInstanceUID), series_instance_uid: self(content.seriesInstanceUID),
            content_date: self(content.contentDate), content_time: self(content.contentTime),
            timezone_offset: self(content.timezoneOffset), revision: UInt32(content.revision),
            device: self(content.device), implementation_class_uid: self(Implementation.classUID),
            implementation_version_name: self(Implementation.versionName))
    }

    deinit {
        for string in strings { string.deallocate() }
        for list in numbers { list.deallocate() }
    }
}
