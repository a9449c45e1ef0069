// swift-tools-version: 6.1
import PackageDescription

/// Where `scripts/setup` puts the headers and libraries of the OpenVINO wheel.
let openVINO = "\(Context.packageDirectory)/.toolchain/openvino"

/// Pixel loops are 50 times slower unoptimised; targets made of them are optimised in debug builds too.
let optimised: [SwiftSetting] = [.unsafeFlags(["-O"], .when(configuration: .debug))]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let metrics: Target.Dependency = .product(name: "Metrics", package: "swift-metrics")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

let package = Package(
    name: "ichnode",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "ichnode", targets: ["ichnode"]),
        .executable(name: "ichnode-dicom", targets: ["DICOMWorker"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.14.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.9.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.0"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.6"),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.37.0"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.0"),
    ],
    targets: [
        // What Swift cannot say, and what only DCMTK and OpenVINO can do.
        .target(name: "CLinux", linkerSettings: [.linkedLibrary("crypto")]),
        .systemLibrary(name: "CZlib"),
        .target(
            name: "CDCMTK",
            cxxSettings: [.unsafeFlags(["-O2"], .when(configuration: .debug))],
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

        // The worker: everything that touches DICOM bytes.
        .target(name: "WorkerProtocol", dependencies: ["CLinux", logging]),
        .target(name: "DICOM", dependencies: ["CDCMTK", "WorkerProtocol"], swiftSettings: optimised),
        .executableTarget(
            name: "DICOMWorker", dependencies: ["DICOM", "WorkerProtocol", "CLinux", argumentParser]),

        // The daemon: pure Swift.
        .target(
            name: "Ledger", dependencies: ["WorkerProtocol", "CLinux", .product(name: "GRDB", package: "GRDB.swift")]),
        .target(name: "StoreSCP", dependencies: ["WorkerProtocol", "Ledger", "CLinux", logging, metrics, lifecycle]),
        .target(
            name: "ICHModel", dependencies: ["WorkerProtocol", "COpenVINO", "CLinux", logging, metrics],
            swiftSettings: optimised),
        .target(
            name: "AlertDispatcher",
            dependencies: [
                "WorkerProtocol", "Ledger", "CLinux", logging, metrics, lifecycle,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: optimised),
        .target(
            name: "Console",
            dependencies: [
                "WorkerProtocol", "Ledger", "CLinux", logging, metrics, lifecycle,
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            resources: [.embedInCode("Assets")]),
        .executableTarget(
            name: "ichnode",
            dependencies: [
                "WorkerProtocol", "StoreSCP", "Ledger", "ICHModel", "AlertDispatcher", "Console", "CLinux",
                "CZlib", argumentParser, logging, metrics, lifecycle,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ],
            // The annotated example, which is also the help of the console.
            resources: [.embedInCode("Resources/ichnode.yaml")]),

        .target(name: "TestPrograms", path: "Tests/TestPrograms"),
        .testTarget(
            name: "ComposeTests",
            dependencies: ["AlertDispatcher", "Ledger", "WorkerProtocol", "DICOMWorker", logging, "TestPrograms"]),
        .testTarget(
            name: "ICHModelTests", dependencies: ["ICHModel", "WorkerProtocol", "TestPrograms"],
            swiftSettings: optimised),
        .testTarget(name: "DICOMTests", dependencies: ["DICOM", "WorkerProtocol"]),
        .testTarget(
            name: "DICOMWorkerTests",
            dependencies: ["DICOM", "WorkerProtocol", "DICOMWorker", "CLinux", "TestPrograms"]),
        .testTarget(name: "WorkerProtocolTests", dependencies: ["WorkerProtocol", "CLinux"]),
        .testTarget(
            name: "LedgerTests",
            dependencies: ["Ledger", "WorkerProtocol", .product(name: "GRDB", package: "GRDB.swift")]),
        .testTarget(name: "StoreSCPTests", dependencies: ["StoreSCP", "Ledger", "WorkerProtocol", lifecycle, logging]),
        .testTarget(
            name: "AlertDispatcherTests",
            dependencies: [
                "AlertDispatcher", "Ledger", "WorkerProtocol", logging, "TestPrograms",
                .product(name: "GRDB", package: "GRDB.swift"),
            ]),
        .testTarget(
            name: "ConsoleTests",
            dependencies: [
                "Console", "Ledger", "WorkerProtocol", logging,
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdTesting", package: "hummingbird"),
                .product(name: "Yams", package: "Yams"),
            ]),
        .testTarget(name: "NodeTests", dependencies: ["ichnode", "DICOMWorker", "TestPrograms"]),
        .testTarget(name: "TidyTests"),
    ],
    cxxLanguageStandard: .cxx17
)

for target in package.targets where target.type != .system {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
        ]
}
