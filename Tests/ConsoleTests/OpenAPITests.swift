import Foundation
import HTTPTypes
import Ledger
import Testing
import WorkerProtocol
import Yams

@testable import Console

/// docs/openapi.yaml is what is served, and says what the code does.
@Suite struct OpenAPITests {
    private typealias Node = [String: Any]

    private static let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("docs/openapi.yaml")

    private static func document() throws -> Node {
        try #require(try Yams.load(yaml: String(contentsOf: file, encoding: .utf8)) as? Node)
    }

    private static func schema(_ name: String) throws -> Node {
        let schemas = (try document()["components"] as? Node)?["schemas"] as? Node
        return try #require(schemas?[name] as? Node, "\(name)")
    }

    private static let methods = Set(["get", "put", "post", "delete", "options", "head", "patch", "trace"])

    @Test func describesEachRouteAndNoOther() throws {
        let paths = try #require(try Self.document()["paths"] as? [String: Node])
        let described = Set(
            paths.flatMap { path, item in item.keys.filter(Self.methods.contains).map { "\($0) \(path)" } })
        let routes = try ConsoleFixture().server.routes.filter { $0.path.hasPrefix("/api/") }
        #expect(described == Set(routes.map { "\($0.method.rawValue.lowercased()) \($0.path)" }))
        for route in routes {
            let operation = try #require(paths[route.path]?[route.method.rawValue.lowercased()] as? Node)
            let answers = try #require(operation["responses"] as? Node)
            // Open to all, or refused to some.
            #expect((operation["security"] as? [Any] != nil) == (route.access == .open), "\(route.path)")
            #expect((answers["401"] != nil) == (route.access != .open), "\(route.path)")
            #expect((answers["409"] != nil) == (route.access == .acting), "\(route.path)")
            #expect((answers["404"] != nil) == route.path.contains("{"), "\(route.path)")
            #expect(answers["405"] != nil && answers["400"] != nil, "\(route.path)")
        }
    }

    @Test func isServed() async throws {
        let answer = try await ConsoleFixture(Visitor()).ask("/openapi")
        #expect(answer.status == .ok)
        #expect(answer.headers[.contentType] == "application/yaml")
        #expect(try String(contentsOf: Self.file, encoding: .utf8) == answer.text)
    }

    /// Names of the schema, and which of them may be missing.
    private func agree(_ model: Any, _ name: String) throws {
        let schema = try Self.schema(name)
        let properties = try #require(schema["properties"] as? Node)
        let required = Set(try #require(schema["required"] as? [String]))
        let children = Mirror(reflecting: model).children
        #expect(Set(children.compactMap(\.label)) == Set(properties.keys), "\(name)")
        let present = children.filter { Mirror(reflecting: $0.value).displayStyle != .optional }
        #expect(Set(present.compactMap(\.label)) == required, "\(name)")
    }

    @Test func modelsHaveItsNames() async throws {
        let fixture = try ConsoleFixture()
        let uid = UID("1.2.3")!
        try await fixture.ledger.recordInstances([.fixture(study: uid)])
        try await fixture.conclude(study: uid, owedTo: ["pacs"])
        let detail = API.StudyDetail(try #require(try await fixture.ledger.study(uid)))
        try agree(detail, "StudyDetail")
        try agree(detail.study, "Study")
        try agree(try #require(detail.series.first), "Series")
        try agree(try #require(detail.analyses.first), "Analysis")
        try agree(try #require(detail.events.first), "Event")
        try agree(try #require(detail.deliveries.first), "Delivery")
        try agree(try #require(detail.deliveries.first?.objects.first), "DeliveryObject")
        try agree(API.StudyList(studies: [], total: 0, limit: 1, offset: 0), "StudyList")
        try agree(API.DeliveryList(deliveries: [], total: 0, limit: 1, offset: 0), "DeliveryList")
        try agree(API.AlertList(alerts: [], total: 0, limit: 1, offset: 0), "AlertList")
        let alert = OperatorAlertEntry(
            id: 1, kind: .noResult, subject: "1.2.3", text: "late", occurrence: 1, raisedAt: .now)
        try agree(API.Alert(alert), "Alert")
        try agree(API.Explanation(.init(studyInstanceUID: uid, standing: "", series: [])), "Explanation")
        try agree(API.Health(ready: true), "Health")
        try agree(API.Done(done: "done"), "Done")
    }

    private func values(_ name: String, _ property: String? = nil) throws -> [String] {
        let schema = try Self.schema(name)
        let node = try property.map { try #require((schema["properties"] as? Node)?[$0] as? Node) } ?? schema
        return try #require(node["enum"] as? [String])
    }

    @Test func valuesAreThoseOfTheLedger() throws {
        #expect(try values("StudyState") == StudyState.allCases.map(\.rawValue))
        #expect(try values("Outcome") == Outcome.allCases.map(API.word))
        #expect(try values("Outcome") == API.outcomes.map(\.0))
        #expect(try values("DeliveryState") == DeliveryState.allCases.map(\.rawValue))
        #expect(try values("Alert", "kind") == OperatorAlertKind.allCases.map(\.rawValue))
        #expect(try values("Study", "decision") == OperatorDecision.allCases.map(\.rawValue))
    }
}
