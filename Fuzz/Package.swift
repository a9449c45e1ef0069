// swift-tools-version: 6.1
import PackageDescription

/// The product's code is compiled a second time here, from links in Sources/, because libFuzzer and AddressSanitizer
/// have to be compiled in. `Checks/` is shared with the ordinary tests, which run the corpus without either.

/// Where `scripts/setup` puts the headers and libraries of the OpenVINO wheel.
let openVINO = "\(Context.packageDirectory)/../.toolchain/openvino"

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

let package = Package(
    name: "ichnode-fuzz",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(url: "https://github.com/apple/swift-log.git", from: "1.14.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.9.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.0"),
    ],
    targets: [
        // The product, as far as it is fuzzed. Targets and arrows as in ../Package.swift.
        .target(name: "CLinux", linkerSettings: [.linkedLibrary("crypto")]),
        .systemLibrary(name: "CZlib"),
        .target(
            name: "CDCMTK",
            cxxSettings: [.unsafeFlags(["-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined"])],
            linkerSettings: [
                "dcmtls", "dcmnet", "cmr", "dcmsr", "dcmimage", "dcmimgle", "dcmjpeg", "dcmjpls", "dcmdata", "oflog",
                "ofstd", "openjp2", "xml2", "z", "ssl", "crypto",
            ].map { .linkedLibrary($0) }
        ),
        .target(
            name: "COpenVINO",
            cSettings: [.unsafeFlags(["-I\(openVINO)/include"])],
            linkerSettings: [
                .unsafeFlags(["-L\(openVINO)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(openVINO)/lib"]),
                .linkedLibrary("openvino_c"),
            ]
        ),
        .target(name: "WorkerProtocol", dependencies: ["CLinux", logging]),
        .target(name: "DICOM", dependencies: ["CDCMTK", "WorkerProtocol"]),
        .target(
            name: "DICOMWorker", dependencies: ["DICOM", "WorkerProtocol", "CLinux"], sources: ["StoredFile.swift"]),
        .target(
            name: "Ledger", dependencies: ["WorkerProtocol", "CLinux", .product(name: "GRDB", package: "GRDB.swift")]),
        .target(name: "StoreSCP", dependencies: ["WorkerProtocol", "Ledger", "CLinux", logging, metrics, lifecycle]),
        .target(name: "ICHModel", dependencies: ["WorkerProtocol", "COpenVINO", "CLinux", logging, metrics]),
        .target(
            name: "AlertDispatcher", dependencies: ["WorkerProtocol", "Ledger", "CLinux", logging, metrics, lifecycle],
            // What needs an HTTP client or NIO, which nothing here does.
            exclude: [
                "WebhookClock.swift", "WebhookDestination.swift", "HL7/HL7Receiver.swift", "HL7/MLLPClient.swift",
            ]),
        .target(
            name: "Console", dependencies: ["WorkerProtocol", "CLinux"],
            // What the configuration says of it, without HTTP.
            sources: ["ConsoleSettings", "PasswordHash", "Secrets", "Visitor"].map { "Access/\($0).swift" }),
        .target(
            name: "ichnode",
            dependencies: [
                "WorkerProtocol", "StoreSCP", "Ledger", "ICHModel", "AlertDispatcher", "Console",
                .product(name: "Yams", package: "Yams"),
            ],
            // What examines and compares files.
            exclude: ["ConfigurationExamination", "ConfigurationFile"].map { "Configuration/\($0).swift" },
            sources: ["Configuration", "Control/ControlMessages.swift"]),

        // What has to hold for every input.
        .target(name: "FuzzSupport", path: "Checks/Support"),
        .target(
            name: "FuzzHeader", dependencies: ["DICOM", "WorkerProtocol", "CZlib", "FuzzSupport"],
            path: "Checks/Header"),
        .target(name: "FuzzAssociation", dependencies: ["StoreSCP", "FuzzSupport"], path: "Checks/Association"),
        .target(name: "FuzzFrames", dependencies: ["WorkerProtocol", "CLinux", "FuzzSupport"], path: "Checks/Frames"),
        .target(name: "FuzzConfiguration", dependencies: ["ichnode", "FuzzSupport"], path: "Checks/Configuration"),
        .target(name: "FuzzControl", dependencies: ["ichnode", "FuzzSupport"], path: "Checks/Control"),
        .target(
            name: "FuzzPixels", dependencies: ["DICOMWorker", "DICOM", "WorkerProtocol", "FuzzSupport"],
            path: "Checks/Pixels"),
    ],
    cxxLanguageStandard: .cxx17
)

for name in ["Header", "Association", "Frames", "Configuration", "Control", "Pixels"] {
    let target = name.lowercased()
    // libFuzzer brings `main`.
    package.targets.append(
        .executableTarget(
            name: target, dependencies: [.target(name: "Fuzz\(name)"), "FuzzSupport"], path: "Targets/\(target)",
            swiftSettings: [.unsafeFlags(["-parse-as-library"])]))
}

for target in package.targets where target.type != .system {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            // Overflow and bounds are checked all the same.
            .unsafeFlags(["-O"]),
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
        ]
}
