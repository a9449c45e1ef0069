import Foundation
import Testing
import WorkerProtocol

@testable import StoreSCP

@Suite struct CompletionPolicyTests {
    private let policy = CompletionPolicy(grace: .seconds(2), quietTime: .seconds(60), deadline: .seconds(600))
    private let start = Date(timeIntervalSince1970: 1000)
    private let gap = CompletionReason.slice(atMillimetres: 60)
    private let wide = CompletionReason.wideSpacing(millimetres: 5, thickness: 2.5)

    private func decide(
        after seconds: Double, ended: Double?, pauses: Duration? = nil, _ series: SeriesEvidence = .init(),
        forced: Bool = false
    ) -> CompletionPolicy.Decision {
        policy.decide(
            .init(
                lastArrival: start, associationsEnded: ended.map { start + $0 }, associationGap: pauses, series: series,
                forced: forced),
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
        #expect(decide(after: 59.9, ended: 0, pauses: .seconds(50)) == .wait(until: start + 60))
        #expect(decide(after: 60, ended: 0, pauses: .seconds(50)) == .complete(.grace))
    }

    @Test func aPeerThatPausesBetweenAssociationsIsGivenTwiceItsPause() {
        #expect(decide(after: 7.9, ended: 0, pauses: .seconds(4)) == .wait(until: start + 8))
        #expect(decide(after: 8, ended: 0, pauses: .seconds(4)) == .complete(.grace))
        #expect(decide(after: 2, ended: 0, pauses: .milliseconds(10)) == .complete(.grace))
    }

    @Test func missingSlicesAreWaitedForUntilTheDeadline() {
        let series = SeriesEvidence(missing: [gap])
        #expect(decide(after: 5, ended: 1, series) == .wait(until: start + 600))
        #expect(decide(after: 600, ended: 1, series) == .incomplete(.deadline, reasons: [gap]))
    }

    @Test func noCountMakesUpForAMissingSlice() {
        let series = SeriesEvidence(missing: [gap], isAsDeclared: true)
        #expect(decide(after: 599, ended: 1, series) == .wait(until: start + 600))
        #expect(decide(after: 600, ended: 1, series) == .incomplete(.deadline, reasons: [gap]))
    }

    @Test func wideSpacingIsSettledByTimeAndSaid() {
        let series = SeriesEvidence(doubts: [wide])
        #expect(decide(after: 59.9, ended: 1, series) == .wait(until: start + 60))
        #expect(decide(after: 60, ended: 1, series) == .complete(.quiet, doubts: [wide]))
    }

    @Test func aCountThatAgreesSettlesWideSpacingAndAnIdleAssociation() {
        let series = SeriesEvidence(doubts: [wide], isAsDeclared: true)
        #expect(decide(after: 1.9, ended: nil, series) == .wait(until: start + 2))
        #expect(decide(after: 2, ended: nil, series) == .complete(.declared))
        #expect(decide(after: 2.9, ended: 1, series) == .wait(until: start + 3))
        #expect(decide(after: 3, ended: 1, series) == .complete(.declared))
    }

    @Test func whatThePACSHoldsSettlesDoubtsOnceItHasSaidSoTwice() {
        let series = SeriesEvidence(seriesInstanceUID: UID("1.2"), imageCount: 30, doubts: [wide])
        func decision(at seconds: Double, _ held: CompletionPolicy.HeldCount?) -> CompletionPolicy.Decision {
            policy.decide(
                .init(lastArrival: start, associationsEnded: start, series: series, held: held), at: start + seconds)
        }
        let once = CompletionPolicy.HeldCount(images: 30, since: start + 2, latest: start + 2)
        #expect(decision(at: 5, once) == .wait(until: start + 60))
        let twice = once.adding(30, at: start + 4)
        #expect(decision(at: 5, twice) == .complete(.held))
        // It still receives.
        let growing = CompletionPolicy.HeldCount(images: 28, since: start + 2, latest: start + 2)
            .adding(30, at: start + 4)
        #expect(decision(at: 5, growing) == .wait(until: start + 60))
        // And holds fewer: its answer settles nothing.
        let fewer = CompletionPolicy.HeldCount(images: 7, since: start + 2, latest: start + 9)
        #expect(decision(at: 60, fewer) == .complete(.quiet, doubts: [wide]))
    }

    @Test func imagesThatThePACSHoldsAreWaitedForUntilTheDeadline() {
        let series = SeriesEvidence(seriesInstanceUID: UID("1.2"), imageCount: 30)
        let more = CompletionPolicy.HeldCount(images: 40, since: start + 2, latest: start + 2)
        let evidence = CompletionPolicy.Evidence(
            lastArrival: start, associationsEnded: start, series: series, held: more)
        #expect(policy.decide(evidence, at: start + 60) == .wait(until: start + 600))
        #expect(
            policy.decide(evidence, at: start + 600)
                == .incomplete(.deadline, reasons: [.fewerThanHeld(present: 30, 40)]))
    }

    @Test func thePACSIsAskedOnlyWhereItsAnswerWouldTell() {
        let whole = SeriesEvidence(seriesInstanceUID: UID("1.2"), imageCount: 30)
        var doubtful = whole
        doubtful.doubts = [wide]
        var broken = doubtful
        broken.missing = [gap]
        func next(
            _ series: SeriesEvidence, ended: Date?, held: CompletionPolicy.HeldCount? = nil
        ) -> Double? {
            policy.nextQuestion(.init(lastArrival: start, associationsEnded: ended, series: series, held: held))
                .map { $0.timeIntervalSince(start) }
        }
        #expect(next(whole, ended: start) == nil)
        #expect(next(broken, ended: start) == nil)
        #expect(next(SeriesEvidence(doubts: [wide]), ended: start) == nil)
        #expect(next(doubtful, ended: start) == 2)
        #expect(next(whole, ended: nil) == 2)
        let once = CompletionPolicy.HeldCount(images: 28, since: start + 2, latest: start + 2)
        #expect(next(doubtful, ended: start, held: once) == 4)
        #expect(next(doubtful, ended: start, held: once.adding(28, at: start + 4)) == 19)
        let agreed = CompletionPolicy.HeldCount(images: 30, since: start + 2, latest: start + 4)
        #expect(next(doubtful, ended: start, held: agreed) == nil)
    }

    @Test func missingImagesAreAskedForOnceNothingComes() {
        let whole = SeriesEvidence(seriesInstanceUID: UID("1.2"), imageCount: 30)
        var broken = whole
        broken.missing = [gap]
        func next(
            _ series: SeriesEvidence, ended: Double?, pauses: Duration? = nil,
            held: CompletionPolicy.HeldCount? = nil, made: CompletionPolicy.Retrievals? = nil, forced: Bool = false
        ) -> Double? {
            policy.nextRetrieval(
                .init(
                    lastArrival: start, associationsEnded: ended.map { start + $0 }, associationGap: pauses,
                    series: series, held: held, retrievals: made, forced: forced)
            ).map { $0.timeIntervalSince(start) }
        }
        #expect(next(whole, ended: 0) == nil)
        #expect(next(broken, ended: 1) == 3)
        #expect(next(broken, ended: 1, forced: true) == nil)
        #expect(next(broken, ended: 0, pauses: .seconds(4)) == 8)
        #expect(next(broken, ended: nil) == 60)
        // Which series is not known.
        #expect(next(SeriesEvidence(missing: [gap]), ended: 0) == nil)
        // A number that the PACS has said once may grow yet.
        let once = CompletionPolicy.HeldCount(images: 31, since: start + 2, latest: start + 2)
        #expect(next(whole, ended: 0, held: once) == nil)
        #expect(next(whole, ended: 0, held: once.adding(31, at: start + 4)) == 2)
        let equal = CompletionPolicy.HeldCount(images: 30, since: start + 2, latest: start + 4)
        #expect(next(whole, ended: 0, held: equal) == nil)
        // Again only when something has come since, and not for ever.
        #expect(next(broken, ended: 0, made: .init(count: 1, lastArrival: start)) == nil)
        #expect(next(broken, ended: 0, made: .init(count: 1, lastArrival: start - 1)) == 2)
        #expect(next(broken, ended: 0, made: .init(count: 2, lastArrival: start - 1)) == 2)
        #expect(next(broken, ended: 0, made: .init(count: 3, lastArrival: start - 1)) == nil)
    }

    @Test func anOperatorEndsTheWaitingButNotTheDoubt() {
        #expect(decide(after: 0, ended: nil, forced: true) == .complete(.forced))
        #expect(
            decide(after: 0, ended: nil, SeriesEvidence(missing: [gap]), forced: true)
                == .incomplete(.forced, reasons: [gap]))
        #expect(
            decide(after: 0, ended: nil, SeriesEvidence(doubts: [wide]), forced: true)
                == .complete(.forced, doubts: [wide]))
    }

    @Test(arguments: [
        (CompletionReason.slice(atMillimetres: 60.04), "no slice at 60.0 mm along the normal"),
        (.imageLost, "an image was cut off or refused, and did not come again"),
        (.cutOff(end: "lower"), "the lower end of the series shows brain: the head is cut off"),
        (.localizersOnly, "localizers only"),
        (.noSeries("bone kernel"), "no series that can be analysed: bone kernel"),
        (.purged(3), "3 images that retention removed"),
        (.slice(atMillimetres: -2.5), "no slice at -2.5 mm along the normal"), (.more(3), "and 3 more"),
        (.partialSeries("fewer than 8 slices"), "part of a series: fewer than 8 slices"),
        (.wideSpacing(millimetres: 5, thickness: 2.5), "slices of 2.5 mm are 5.0 mm apart"),
        (.fewerThanDeclared(present: 28, 40), "28 of 40 images that the scanner declared"),
        (.fewerThanHeld(present: 28, 40), "28 of 40 images that the PACS holds"),
        (.countOfAnother, "complete by the count of another series"),
    ])
    func reasonsReadAs(reason: CompletionReason, words: String) {
        #expect(reason.description == words)
    }

    @Test func decisionsReadAs() {
        #expect("\(CompletionPolicy.Decision.complete(.grace))" == "associations ended and grace passed")
        #expect(
            "\(CompletionPolicy.Decision.complete(.quiet, doubts: [wide]))"
                == "nothing arrived for the quiet time; though slices of 2.5 mm are 5.0 mm apart")
        #expect(
            "\(CompletionPolicy.Decision.incomplete(.deadline, reasons: [gap, .more(2)]))"
                == "deadline passed; no slice at 60.0 mm along the normal, and 2 more")
        #expect(
            "\(CompletionPolicy.Decision.complete(.declared))" == "all images that the scanner declared are there")
        let decisions: [CompletionPolicy.Decision] = [
            .complete(.grace), .complete(.quiet, doubts: [wide]), .incomplete(.deadline, reasons: [gap]),
            .incomplete(.forced, reasons: [gap]),
        ]
        #expect(decisions.map { CompletionPolicy.Decision.isComplete("\($0)") } == [true, true, false, false])
    }
}
