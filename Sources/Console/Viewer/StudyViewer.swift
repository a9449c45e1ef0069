internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import Ledger
internal import WorkerProtocol

/// The images of the analysed series with what the model saw in them, as a page and as a section of others.
struct StudyViewer {
    /// Of a page that holds the section.
    static let styles = ["viewer.css"]
    static let scripts = ["viewer.js"]

    let parts: ConsoleServer.Parts

    var routes: [ConsoleRoute] {
        [
            .get("/studies/{uid}/images", .patients) { _, context in try await page(context) },
            .get("/studies/{uid}/images/{finding}", .patients) { _, context in try await content(context) },
            .get("/studies/{uid}/images/{finding}/{index}", .patients) { request, context in
                try await slice(request, context)
            },
        ]
    }

    static func path(_ uid: UID) -> String { "/studies/\(uid)/images" }

    /// Of the latest analysis; says why where there is nothing to see.
    func section(of detail: StudyDetail) async throws -> HTML {
        guard let images = parts.images else { return Self.message("images are not shown by this node") }
        guard let analysis = detail.analyses.last else {
            return Self.message("not analysed yet: images are shown with their finding")
        }
        guard analysis.studyProbability != nil else {
            return Self.message("not analysed: \(analysis.reason.isEmpty ? "no finding" : analysis.reason)")
        }
        let record: FindingRecord?
        do {
            record = try await images.finding(analysis.findingName, ofStudy: detail.study.studyInstanceUID)
        } catch ImageRefusal.undecodable(let reason) { return Self.message(reason) }
        guard let record else {
            return Self.message(
                "no finding was kept with this analysis: have the study analysed again to look at its images here")
        }
        return ViewerSection(detail: detail, analysis: analysis, record: record).html
    }

    private static func message(_ text: String) -> HTML {
        "<section class=\"viewer-none\" aria-label=\"Images\"><p class=\"empty\">\(text)</p></section>"
    }

    // MARK: Answers

    private func page(_ context: ConsoleContext) async throws -> Response {
        let uid = try Self.uid(context)
        guard let detail = try await parts.ledger.study(uid) else { throw HTTPError(.notFound) }
        parts.audit.viewed(study: uid, by: context.visitor)
        let patient = try await parts.ledger.firstInstance(ofStudy: uid)?.record.patient
        let who = [patient?.name.map(PatientWords.name), patient?.id].compactMap { $0 }.filter { !$0.isEmpty }
        return Page(
            title: "Images", area: .worklist, visitor: context.visitor, styles: Self.styles, scripts: Self.scripts,
            content: """
                <h1>Images <small>\(who.joined(separator: " · "))</small></h1>
                <p><a href="/studies/\(uid.string)">To the study</a></p>
                \(try await section(of: detail))
                """
        ).response()
    }

    private func content(_ context: ConsoleContext) async throws -> Response {
        let (uid, name) = (try Self.uid(context), try context.parameters.require("finding"))
        return try await refusing {
            guard let images = parts.images, let record = try await images.finding(name, ofStudy: uid) else {
                throw ImageRefusal.unknown
            }
            let json = try JSONEncoder().encode(ViewerContent(record, shades: images.shades))
            return Response(
                status: .ok,
                headers: [.contentType: "application/json; charset=utf-8", .cacheControl: "private, no-store"],
                body: .init(byteBuffer: ByteBuffer(bytes: json)))
        }
    }

    private func slice(_ request: Request, _ context: ConsoleContext) async throws -> Response {
        let (uid, name) = (try Self.uid(context), try context.parameters.require("finding"))
        guard let index = context.parameters.get("index", as: Int.self) else { throw HTTPError(.notFound) }
        let isGzipped = request.headers[.acceptEncoding]?.contains("gzip") == true
        return try await refusing {
            guard let images = parts.images else { throw ImageRefusal.unknown }
            let slice = try await images.slice(index, of: name, study: uid, isGzipped: isGzipped)
            parts.audit.viewed(study: uid, by: context.visitor)
            var headers: HTTPFields = [
                .contentType: "application/octet-stream", .cacheControl: "private, no-store", .vary: "Accept-Encoding",
                Self.rows: "\(slice.rows)", Self.columns: "\(slice.columns)",
            ]
            if slice.isGzipped { headers[.contentEncoding] = "gzip" }
            return Response(
                status: .ok, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: slice.pixels)))
        }
    }

    private static let rows = HTTPField.Name.constant("Image-Rows")
    private static let columns = HTTPField.Name.constant("Image-Columns")

    /// A UID that is none is of no study.
    private static func uid(_ context: ConsoleContext) throws -> UID {
        guard let uid = UID(try context.parameters.require("uid")) else { throw HTTPError(.notFound) }
        return uid
    }

    /// With the words that the viewer shows.
    private func refusing(_ body: () async throws -> Response) async throws -> Response {
        do { return try await body() } catch let refusal as ImageRefusal {
            switch refusal {
            case .unknown: throw HTTPError(.notFound, message: "no such image")
            case .removed: throw HTTPError(.gone, message: "the images were removed by retention")
            case .undecodable(let reason): throw HTTPError(.unprocessableContent, message: "cannot be shown: \(reason)")
            case .busy: throw HTTPError(.serviceUnavailable, message: "too many images are asked for at once")
            }
        }
    }
}
