import Foundation
import ICHModel
import WorkerProtocol

/// What the geometry of the series that would be analysed lacks.
enum MissingPositions {
    @Sendable static func find(_ all: [InstanceRecord]) -> [String] {
        let records = Array(StudyAnalyzer.newest(all).values)
        let selection = SeriesSelection(records)
        guard case .chosen(let uid) = selection.conclusion, let series = selection.assessment(of: uid) else {
            return selection.series.compactMap(partial)
        }
        let byUID = StudyAnalyzer.newest(records)
        let positions = series.instances.compactMap { instance in
            byUID[instance].flatMap { try? SliceGeometry($0.image) }?.positionMillimetres
        }
        return SliceContiguity(positions: positions).words
    }

    /// A series that would be analysed if more of it came.
    private static func partial(_ series: SeriesSelection.Assessment) -> String? {
        guard case .refused(let reason) = series.verdict, series.mayBeChosen else { return nil }
        if case .other = series.region { return nil }
        return "a series has \(reason)"
    }
}
