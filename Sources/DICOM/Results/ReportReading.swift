internal import CDCMTK
public import WorkerProtocol

/// Reads Structured Reports of ours back (PS3.3 C.17.3).
public enum ReportReading {
    /// - Throws: `WorkerError` with code `failed`.
    public static func document(at path: String) throws -> ReportDocument {
        final class Items {
            var all: [ReportDocument.Item] = []
        }
        let items = Items()
        try withExtendedLifetime(items) {
            let context = Unmanaged.passUnretained(items).toOpaque()
            try ResultWriting.withReason(.failed) { reason, size in
                cdcmtk_report_read(
                    path,
                    { context, item in
                        guard let context, let item = item?.pointee else { return }
                        Unmanaged<Items>.fromOpaque(context).takeUnretainedValue().all.append(
                            ReportDocument.Item(
                                level: Int(item.level), valueType: String(cString: item.value_type),
                                name: String(cString: item.name), value: String(cString: item.value)))
                    }, context, reason, size) == 0
            }
        }
        return ReportDocument(items: items.all)
    }
}
