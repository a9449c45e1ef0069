import Foundation
import Testing

@testable import StoreSCP

@Suite struct CompletionPolicyTests {
    private let policy = CompletionPolicy(grace: .seconds(2), quietTime: .seconds(60), deadline: .seconds(600))
    private let start = Date(timeIntervalSince1970: 1000)

    private func decide(
        after seconds: Double, ended: Double?, missing: [String] = [], forced: Bool = false
    ) -> CompletionPolicy.Decision {
        policy.decide(
            .init(
                lastArrival: start, associationsEnded: ended.map { start + $0 }, missing: missing, forced: forced),
            at: start + seconds)
    }

    @Test func waitsForTheGraceAfterTheAssociationsEnded() {
        #expect(decide(after: 2.9, ended: 1) == .wait(until: start + 3))
        #expect(decide(after: 3, ended: 1) == .complete(.grace))
    }

    @Test func anOpenAssociationHoldsTheStudyForTheQuietTime() {
        #expect(decide(after: 59.9, ended: nil) == .wait(until: start + 60))
        #expect(decide(after: 60, ended: nil) == .complete(.quiet))
    }

    @Test func theGraceNeverOutlastsTheQuietTime() {
        #expect(decide(after: 60.5, ended: 60.2) == .complete(.grace))
    }

    @Test func missingSlicesAreWaitedForUntilTheDeadline() {
        #expect(decide(after: 5, ended: 1, missing: ["x"]) == .wait(until: start + 600))
        #expect(decide(after: 600, ended: 1, missing: ["x"]) == .incomplete(.deadline, reasons: ["x"]))
    }

    @Test func anOperatorEndsTheWaitingButNotTheDoubt() {
        #expect(decide(after: 0, ended: nil, forced: true) == .complete(.forced))
        #expect(decide(after: 0, ended: nil, missing: ["x"], forced: true) == .incomplete(.forced, reasons: ["x"]))
    }
}
