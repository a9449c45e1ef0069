import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Ledger
import WorkerProtocol

@testable import Console

extension StoredInstance {
    static func fixture(study: UID, number: Int = 1, patient: String? = nil, at date: Date = .now) -> StoredInstance {
        var record = InstanceRecord(
            sopClassUID: UID("1.2.840.10008.5.1.4.1.1.2")!, sopInstanceUID: UID("\(study).1.\(number)")!,
            studyInstanceUID: study, seriesInstanceUID: UID("\(study).1")!,
            transferSyntaxUID: UID("1.2.840.10008.1.2")!)
        record.patient.name = patient
        record.callingAETitle = AETitle("CT1")
        return StoredInstance(record: record, path: "/spool/\(study).\(number)", receivedAt: date)
    }
}

extension ConsoleFixture {
    /// An answer of the API.
    struct Answer {
        var status: HTTPResponse.Status
        var headers: HTTPFields
        var text: String
        var json: [String: Any] {
            (try? JSONSerialization.jsonObject(with: Data(text.utf8))) as? [String: Any] ?? [:]
        }
        var detail: String { json["detail"] as? String ?? "" }
    }

    func ask(
        _ path: String, _ method: HTTPRequest.Method = .get, headers: HTTPFields = [:], body: String? = nil
    ) async throws -> Answer {
        try await Application(router: server.router).test(.router) { client in
            let response = try await client.executeRequest(
                uri: "/api/v1\(path)", method: method, headers: headers, body: body.map { ByteBuffer(string: $0) })
            return Answer(status: response.status, headers: response.headers, text: String(buffer: response.body))
        }
    }

    /// With a report, and a message that nobody may read here.
    func conclude(study: UID, outcome: Outcome = .positive, owedTo destinations: [String]) async throws {
        _ = try await ledger.beginAnalysis(ofStudy: study, seeing: 1, because: "grace")
        let report = ComposedObject(
            path: "/results/\(study)", sopClassUID: UID("1.2.840.10008.5.1.4.1.1.88.22")!,
            sopInstanceUID: UID("2.25.\(study.string.filter(\.isNumber))")!)
        try await ledger.recordVerdicts(
            [
                SeriesVerdictEntry(
                    seriesInstanceUID: UID("\(study).1")!, number: 2, description: "HEAD", instanceCount: 1,
                    verdict: "chosen", reason: "the only one")
            ], ofStudy: study)
        try await ledger.conclude(
            AnalysisEntry(
                studyInstanceUID: study, revisionDigest: "r", modelDigest: "m", configurationDigest: "c",
                route: "default", startedAt: .now, completedAt: .now, outcome: outcome, reason: "",
                completion: "grace", studyProbability: 0.9, threshold: 0.5, flaggedSlices: 1,
                seriesInstanceUID: UID("\(study).1")!,
                report: ImageReference(
                    sopClassUID: report.sopClassUID, sopInstanceUID: report.sopInstanceUID,
                    seriesInstanceUID: UID("\(study).9")!)),
            objects: [report],
            deliveries: destinations.map { NewDelivery(destination: $0, priority: 0, objects: [report]) } + [
                NewDelivery(
                    destination: "ris", priority: 0, message: OutboundMessage(id: "M1", body: "MSH|secret"))
            ])
    }
}
