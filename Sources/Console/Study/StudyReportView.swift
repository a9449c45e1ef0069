internal import Ledger
internal import WorkerProtocol

/// The Structured Report of a study as text: what its file says.
struct StudyReportView {
    /// Items that a page shows of one report.
    private static let mostItems = 2000

    var revision: Int
    /// How many there are.
    var revisions: Int
    var uid: UID
    var document: ReportDocument?
    /// Why it cannot be shown.
    var trouble: String?

    /// - Parameter revision: the latest where nil, or where there is no such.
    /// - Returns: nil where there is no report, or the visitor may not see it.
    static func read(_ study: ShownStudy, revision: Int?, _ parts: ConsoleServer.Parts) async -> StudyReportView? {
        let reported = study.reported
        guard study.visitor.maySeePatients, !reported.isEmpty else { return nil }
        let number = revision.flatMap { (1...reported.count).contains($0) ? $0 : nil } ?? reported.count
        guard let uid = reported[number - 1].report?.sopInstanceUID else { return nil }
        var view = StudyReportView(revision: number, revisions: reported.count, uid: uid)
        let path = study.objects.first { $0.sopInstanceUID == uid }.flatMap { parts.results?.checked($0.path) }
        guard let path, let results = parts.results else {
            view.trouble = "its file is not where the node keeps its results"
            return view
        }
        do { view.document = try await results.document(path) } catch {
            view.trouble = (error as? WorkerError)?.reason ?? "\(error)"
        }
        return view
    }

    func html(_ study: UID) -> HTML {
        """
        <section class="card report" id="report">
        <h2>Structured Report\(revisions > 1 ? ", revision \(revision) of \(revisions)" : "")</h2>
        \(revisions > 1 ? earlier(study) : nil)\
        \(content)
        </section>
        """
    }

    private var content: HTML {
        guard let document else { return "<p class=\"notice error\">It cannot be shown: \(trouble ?? "")</p>" }
        return text(document)
    }

    private func earlier(_ study: UID) -> HTML {
        let links = (1...revisions).filter { $0 != revision }.suffix(20).map { number -> HTML in
            "<a href=\"/studies/\(study.string)?revision=\(number)#report\">revision \(number)</a> "
        }
        return "<p>Also: \(links)</p>\n"
    }

    private func text(_ document: ReportDocument) -> HTML {
        let header = document.header.map { "<dt>\(Self.words($0.name))</dt><dd>\($0.value)</dd>\n" as HTML }
        let left = document.content.count - Self.mostItems
        // What it says in sentences; its last part, of which a reader should not have to go in search.
        let comments = document.content.filter { $0.valueType == "TEXT" && $0.name == "Comment" }
        return """
            \(comments.map { "<p class=\"comment\">\($0.value)</p>\n" as HTML })\
            <details><summary>Header</summary><dl class="facts">\(header)</dl></details>
            <details><summary>All that it holds, in its order</summary>
            \(Self.content(document.content.prefix(Self.mostItems)))\
            \(left > 0 ? "<p class=\"soft\">\(left) further items are in the file</p>" as HTML : nil)
            </details>

            """
    }

    /// Containers become headings; images without a name of their own, which a library lists one by one, are counted.
    private static func content(_ items: some Sequence<ReportDocument.Item>) -> HTML {
        var html: HTML = ""
        var images: [String] = []
        func flush() {
            guard !images.isEmpty else { return }
            let count = Words.count(images.count, "image")
            let list = images.map { "<li class=\"mono\">\($0)</li>" as HTML }
            html += "<details class=\"library\"><summary>\(count)</summary><ul>\(list)</ul></details>\n"
            images = []
        }
        for item in items {
            if item.valueType == "IMAGE" && item.name.isEmpty {
                images.append(item.value)
                continue
            }
            flush()
            html += line(item)
        }
        flush()
        return html
    }

    private static func line(_ item: ReportDocument.Item) -> HTML {
        let depth = String(min(max(item.level, 1), 6))
        if item.valueType == "CONTAINER" {
            return "<h3 class=\"level-\(depth)\">\(item.name.isEmpty ? "Container" : item.name)</h3>\n"
        }
        return """
            <p class="level-\(depth)"><span class="soft">\(item.name.isEmpty ? item.valueType : item.name):</span> \
            \(item.value)</p>

            """
    }

    /// "PatientName" → "Patient Name".
    private static func words(_ keyword: String) -> String {
        var words = ""
        var before: Character = " "
        for letter in keyword {
            if letter.isUppercase && before.isLowercase { words += " " }
            words.append(letter)
            before = letter
        }
        return words
    }
}
