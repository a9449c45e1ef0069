internal import HTTPTypes
internal import Hummingbird
internal import Ledger
internal import WorkerProtocol

/// Hands a result object out, as it is sent to a PACS, without ever holding it whole.
struct ResultDownload {
    let parts: ConsoleServer.Parts

    func response(_ uid: UID, ofStudy study: UID, _ context: ConsoleContext) async throws -> Response {
        let known = try await parts.ledger.resultObjects(ofStudy: study).first { $0.sopInstanceUID == uid }
        guard let known else { throw HTTPError(.notFound, message: "no such object of this study is known") }
        guard let path = parts.results?.checked(known.path) else {
            throw HTTPError(.notFound, message: "the file of this object is not where the node keeps its results")
        }
        return Response(
            status: .ok,
            headers: [
                .contentType: "application/dicom", .cacheControl: "no-store",
                .contentDisposition: "attachment; filename=\"\(known.downloadName)\"",
            ], body: try await FileIO().loadFile(path: path, context: context))
    }
}
