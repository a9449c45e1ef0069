internal import Foundation
internal import WorkerProtocol

/// From logits to a finding: calibration, threshold, flags.
struct FindingBuilder {
    let package: ModelPackage
    let threshold: ModelPackage.Threshold

    /// What is the same for the whole series.
    struct Series {
        let box: StudyBox
        let rows: Int
        let columns: Int
        let slicesPerSlab: Int
        let spacing: Double?
        let brain: BrainCheck
        let endsWithinBrain: [SeriesEnd]
    }

    /// - Throws: `ModelError` with code `notFinite`.
    func finding(_ slabs: [SlabPlan.Slab], _ encoded: [EncodedPlane], _ scores: StudyScores, _ series: Series) throws
        -> Finding
    {
        let probabilities = scores.studyLogits.map { package.studyCalibration.probability(logit: Double($0)) }
        let probability = probabilities[package.anyClass]
        let isPositive = probability >= threshold.value
        var slices = slabs.indices.map { slice(slabs[$0], scores.sliceLogits[$0], scores.attention[$0]) }
        guard (probabilities + slices.flatMap { [$0.probability, $0.logit, $0.attention] }).allSatisfy(\.isFinite)
        else {
            throw ModelError(.notFinite, "a probability is not finite: check the calibration of the model package")
        }
        if isPositive { flag(&slices, encoded) }
        return Finding(
            modelName: package.name, modelVersion: package.version, modelDigest: package.modelDigest,
            classes: package.classes, probability: probability, classProbabilities: probabilities, threshold: threshold,
            isPositive: isPositive, sliceThreshold: package.sliceThreshold, slices: slices, box: series.box,
            rows: series.rows, columns: series.columns, mapSize: package.mapSize, slicesPerSlab: series.slicesPerSlab,
            spacingMillimetres: series.spacing, brain: series.brain,
            endsWithinBrain: series.endsWithinBrain)
    }

    private func slice(_ slab: SlabPlan.Slab, _ logit: Float, _ attention: Float) -> AnalysedSlice {
        let instances = slab.members.map(\.sopInstanceUID)
        return AnalysedSlice(
            instances: instances, representative: instances[instances.count / 2], positionMillimetres: slab.position,
            probability: package.sliceCalibration.probability(logit: Double(logit)), logit: Double(logit),
            attention: Double(attention), isFlagged: false, lesionMap: nil)
    }

    /// A positive study shows at least its highest slice.
    private func flag(_ slices: inout [AnalysedSlice], _ encoded: [EncodedPlane]) {
        for index in slices.indices { slices[index].isFlagged = slices[index].probability >= package.sliceThreshold }
        if !slices.contains(where: \.isFlagged),
            let highest = slices.indices.max(by: { slices[$0].logit < slices[$1].logit })
        {
            slices[highest].isFlagged = true
        }
        for index in slices.indices {
            slices[index].lesionMap = encoded[index].lesionMap.map { 1 / (1 + exp(-$0)) }
        }
    }
}
