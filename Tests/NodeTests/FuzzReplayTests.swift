import Foundation
import Testing

/// The corpus of `Fuzz/`, without a fuzzer: what has to hold for every input holds for these. `FuzzChecks` is a link.
@Suite struct FuzzReplayTests {
    @Test func headerReader() throws { try replay("header", HeaderCheck.check) }
    @Test func associationRequests() throws { try replay("association", AssociationCheck.check) }
    @Test func framesAndMessages() throws { try replay("frames", FramesCheck.check) }
    @Test func controlMessages() throws { try replay("control", ControlCheck.check) }
    @Test func configurations() throws { try replay("configuration", ConfigurationCheck.check) }
    @Test func pixels() throws { try replay("pixels", PixelsCheck.check) }

    private func replay(_ target: String, _ check: ([UInt8]) throws -> Void) throws {
        let corpus = try inputs("Corpus/\(target)")
        #expect(corpus.count > 5)
        for input in corpus + (try inputs("Findings/\(target)")) {
            do { try check(Array(try Data(contentsOf: input))) } catch {
                Issue.record("\(input.lastPathComponent): \(error)")
            }
        }
    }

    private func inputs(_ folder: String) throws -> [URL] {
        let url = Repository.root.appendingPathComponent("Fuzz/\(folder)")
        guard FileManager.default.fileExists(atPath: url.path) else { return [] }
        return try FileManager.default.contentsOfDirectory(at: url, includingPropertiesForKeys: nil)
            .filter { !$0.lastPathComponent.hasPrefix(".") }
    }
}
