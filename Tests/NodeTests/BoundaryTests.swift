import Foundation
import TestPrograms
import Testing

@testable import ichnode

/// Which library may be where.
@Suite struct BoundaryTests {
    private func built(_ name: String) -> String? {
        let own = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().appendingPathComponent(
            name
        ).path
        let usual = Repository.file(".build/debug/\(name)")
        return [own, usual].first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    @Test func theDaemonDoesNotLinkDCMTK() throws {
        let daemon = try #require(built("ichnode"))
        let libraries = try TestProgram.run("/usr/bin/ldd", [daemon]).output
        #expect(libraries.contains("libopenvino_c"))
        #expect(!libraries.contains("libdcm"))
        #expect(!libraries.contains("libofstd"))
    }

    @Test func theWorkerLinksDCMTKAndNoModel() throws {
        let worker = try #require(built("ichnode-dicom"))
        let libraries = try TestProgram.run("/usr/bin/ldd", [worker]).output
        #expect(libraries.contains("libdcmnet"))
        #expect(!libraries.contains("openvino"))
        #expect(!libraries.contains("sqlite"))
    }

    /// The head that the demo shows must be in no training set.
    @Test func theDemoHeadIsInNoTrainingSet() throws {
        let models = try FileManager.default.contentsOfDirectory(atPath: Repository.file("Models"))
        for model in models {
            let path = Repository.file("Models/\(model)/training-manifest.json")
            let manifest = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
            let datasets = try #require((manifest as? [String: Any])?["datasets"] as? [[String: Any]])
            #expect(!datasets.isEmpty)
            for dataset in datasets {
                let name = "\(dataset["name"] ?? "") \(dataset["source"] ?? "")".lowercased()
                #expect(!name.contains("invesalius") && !name.contains("cranium"))
                let studies = try #require(dataset["studies"] as? [[String: Any]])
                #expect(!studies.isEmpty)
                for study in studies { #expect((study["sha256"] as? String)?.count == 64) }
            }
        }
    }
}
