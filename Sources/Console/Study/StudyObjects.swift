internal import Ledger
internal import WorkerProtocol

/// The result objects of one study as files to keep.
struct StudyObjects {
    let study: ShownStudy

    /// Reports whose objects are listed: the latest.
    private static let mostReports = 5

    var html: HTML? {
        guard study.visitor.maySeePatients, !study.objects.isEmpty else { return nil }
        let reports = study.reported.enumerated().compactMap { index, analysis in
            analysis.report.map { (revision: index + 1, uid: $0.sopInstanceUID) }
        }
        return """
            <section class="card">
            <h2>Result objects</h2>
            <p class="soft">As they are sent. They hold the patient's name: handle files as you handle images.</p>
            \(reports.suffix(Self.mostReports).reversed().map(list))</section>
            """
    }

    private func list(_ revision: Int, _ report: UID) -> HTML {
        let objects = study.objects(ofReport: report)
        let title = study.reported.count > 1 ? "Revision \(revision): " : ""
        let count = Words.count(objects.count, "object")
        let open: HTML = revision == study.reported.count ? " open" : ""
        return """
            <details\(open)><summary>\(title)\(count)</summary>
            <ul class="objects">
            \(objects.map(item))</ul></details>

            """
    }

    private func item(_ object: ComposedObject) -> HTML {
        let uid = object.sopInstanceUID.string
        return """
            <li><a href="/studies/\(study.uid.string)/objects/\(uid)" download>\(object.kind)</a> \
            <small class="mono">\(uid)</small></li>

            """
    }
}
