import WorkerProtocol

#if canImport(FuzzSupport)
import FuzzSupport
#endif

// Messages with any values that their types allow, made from an input.

extension UID {
    static func generated(_ source: inout ByteSource) -> UID {
        UID("1.2.\(source.integer().magnitude)") ?? UID(literal: "1.2")
    }
}

extension AETitle {
    static func generated(_ source: inout ByteSource) -> AETitle {
        AETitle(source.text().prefix(16)) ?? AETitle(literal: "TITLE")
    }

    private init(literal text: String) {
        guard let title = AETitle(text) else { preconditionFailure("no AE title: \(text)") }
        self = title
    }
}

extension ReceiveRequest {
    static func generated(_ source: inout ByteSource) -> ReceiveRequest {
        switch source.below(5) {
        case 0: .serve(.generated(&source))
        case 1: .verdict(.identical)
        case 2: .verdict(.keepAs(path: source.text(), version: source.integer()))
        case 3: .verdict(.refuse(reason: source.text()))
        default: .stop
        }
    }
}

extension AssociationJob {
    static func generated(_ source: inout ByteSource) -> AssociationJob {
        AssociationJob(
            associationID: source.text(), peerAddress: source.text(),
            calledAETitles: source.array(3) { .generated(&$0) }, extraSOPClasses: source.array(3) { .generated(&$0) },
            maxPDUBytes: source.integer(), idleTimeoutSeconds: source.double(), deadlineSeconds: source.double(),
            limits: ObjectLimits(
                sequenceDepth: source.integer(), elementBytes: source.integer(), headerBytes: source.integer(),
                objectBytes: source.integer(), deflateRatio: source.integer()),
            leastFreeBytes: UInt64(source.integer().magnitude), tls: source.optional { .generated(&$0) })
    }
}

extension SecureAdmission {
    static func generated(_ source: inout ByteSource) -> SecureAdmission {
        SecureAdmission(
            rules: AssociationRules(
                calledAETitles: source.array(3) { .generated(&$0) },
                callingAETitles: source.array(3) { .generated(&$0) }),
            hasRoom: source.bool(), requestSeconds: source.double())
    }
}

extension ReceiveEvent {
    static func generated(_ source: inout ByteSource) -> ReceiveEvent {
        switch source.below(7) {
        case 0:
            .accepted(
                AssociationAccepted(
                    callingAETitle: .generated(&source), calledAETitle: .generated(&source),
                    acceptedContexts: source.integer(), proposedContexts: source.integer(),
                    implementation: source.text(),
                    tls: source.optional {
                        SecureConnection(
                            version: $0.text(), cipher: $0.text(), peerCertificate: $0.optional { $0.text() })
                    }))
        case 1: .stored(OwnAttributes(.generated(&source)), microseconds: source.integer())
        case 5: .common(CommonAttributes(.generated(&source)))
        case 2:
            .collision(
                Collision(
                    record: .generated(&source), temporaryPath: source.text(), existingPath: source.text()))
        case 3:
            .refused(
                InstanceRefused(
                    status: UInt16(truncatingIfNeeded: source.integer()), reason: source.text(),
                    object: .generated(&source)))
        case 4: .echoed
        default:
            .ended(
                AssociationEnded(
                    how: .idle, reason: source.text(), storedInstances: source.integer(),
                    lost: source.optional { .generated(&$0) }))
        }
    }
}

extension LostObject {
    static func generated(_ source: inout ByteSource) -> LostObject {
        LostObject(
            sopClassUID: source.text(), sopInstanceUID: source.optional { .generated(&$0) },
            studyInstanceUID: source.optional { .generated(&$0) })
    }
}

extension InstanceRecord {
    static func generated(_ source: inout ByteSource) -> InstanceRecord {
        var record = InstanceRecord(
            sopClassUID: .generated(&source), sopInstanceUID: .generated(&source),
            studyInstanceUID: .generated(&source), seriesInstanceUID: .generated(&source),
            transferSyntaxUID: .generated(&source), callingAETitle: source.optional { .generated(&$0) },
            fileSize: source.integer(), version: source.integer())
        record.patient = PatientIdentity(
            name: source.optional { $0.text() }, id: source.optional { $0.text() },
            birthDate: source.optional { $0.text() })
        record.study.description = source.optional { $0.text() }
        record.study.accessionNumber = source.optional { $0.text() }
        record.series.number = source.optional { $0.integer() }
        record.series.frameOfReferenceUID = source.optional { .generated(&$0) }
        record.series.convolutionKernel = source.optional { $0.text() }
        record.image.imageType = source.array(4) { $0.text() }
        record.image.position = source.optional { $0.array(6) { $0.double() } }
        record.image.sliceThickness = source.optional { $0.double() }
        record.image.rows = source.optional { $0.integer() }
        record.image.hasPixelData = source.bool()
        record.multiFrame = source.optional { .generated(&$0) }
        return record
    }
}

extension MultiFrame {
    static func generated(_ source: inout ByteSource) -> MultiFrame {
        let frames = source.array(3) { source in
            var frame = FrameAttributes()
            frame.position = source.optional { $0.array(3) { $0.double() } }
            frame.type = source.optional { $0.array(4) { $0.text() } }
            frame.acquisitionNumber = source.optional { $0.integer() }
            return frame
        }
        return MultiFrame(
            frames, problem: [nil, .tooMany, .otherNumber, .tooLong, .malformed][source.below(5)],
            concatenation: source.optional {
                Concatenation(
                    uid: .generated(&$0), number: $0.optional { $0.integer() }, total: $0.optional { $0.integer() },
                    frameOffset: $0.integer())
            })
    }
}

extension DecodeEvent {
    static func generated(_ source: inout ByteSource) -> DecodeEvent {
        switch source.below(4) {
        case 0: .described(path: source.text(), .generated(&source))
        case 1:
            .plane(
                DecodedPlane(
                    path: source.text(), frame: source.integer(), frameCount: source.integer(), rows: source.integer(),
                    columns: source.integer(), dataSetDigest: source.text()))
        case 2: .failed(path: source.text(), frame: source.optional { $0.integer() }, reason: source.text())
        default: .done
        }
    }
}

extension ImageReference {
    static func generated(_ source: inout ByteSource) -> ImageReference {
        ImageReference(
            sopClassUID: .generated(&source), sopInstanceUID: .generated(&source),
            seriesInstanceUID: .generated(&source), frames: source.array(3) { $0.integer() })
    }
}

extension Device {
    static func generated(_ source: inout ByteSource) -> Device {
        Device(
            manufacturer: source.text(), modelName: source.text(), serialNumber: source.text(),
            softwareVersion: source.text(), deviceUID: .generated(&source), stationName: source.text())
    }
}

extension ComposeRequest {
    static func generated(_ source: inout ByteSource) -> ComposeRequest {
        ComposeRequest(
            identitySourcePath: source.text(), report: .generated(&source),
            captures: source.array(2) { .generated(&$0) }, keyObjects: source.optional { .generated(&$0) },
            outputDirectory: source.text())
    }
}

extension KeyObjectContent {
    static func generated(_ source: inout ByteSource) -> KeyObjectContent {
        KeyObjectContent(
            fileName: source.text(), sopInstanceUID: .generated(&source), seriesInstanceUID: .generated(&source),
            contentDate: source.text(), contentTime: source.text(), timezoneOffset: source.text(),
            device: .generated(&source), description: source.text(), images: source.array(3) { .generated(&$0) })
    }
}

extension ReportContent {
    static func generated(_ source: inout ByteSource) -> ReportContent {
        ReportContent(
            fileName: source.text(), reportClass: ReportClass.allCases[source.below(ReportClass.allCases.count)],
            sopInstanceUID: .generated(&source), seriesInstanceUID: .generated(&source), contentDate: source.text(),
            contentTime: source.text(), timezoneOffset: source.text(), device: .generated(&source),
            algorithmName: source.text(), algorithmVersion: source.text(), algorithmParameters: source.text(),
            presence: [.present, .absent, .undetermined][source.below(3)],
            studyProbability: source.optional { $0.double() }, studyTrackingUID: .generated(&source),
            imageLibrary: source.array(3) { .generated(&$0) },
            flaggedSlices: source.array(2) {
                FlaggedSlice(
                    image: .generated(&$0), instanceNumber: $0.integer(), trackingUID: .generated(&$0),
                    probability: $0.double(), attention: $0.double())
            },
            comment: source.text())
    }
}

extension CaptureContent {
    static func generated(_ source: inout ByteSource) -> CaptureContent {
        CaptureContent(
            fileName: source.text(), kind: CaptureKind.allCases[source.below(CaptureKind.allCases.count)],
            sopInstanceUID: .generated(&source), seriesInstanceUID: .generated(&source),
            instanceNumber: source.integer(), rows: source.integer(), columns: source.integer(),
            sources: source.array(2) { CaptureSource(path: $0.text(), image: .generated(&$0)) },
            contentDate: source.text(), contentTime: source.text(), timezoneOffset: source.text(),
            device: .generated(&source), derivationDescription: source.text(), imageComments: source.text())
    }
}

extension RemotePeer {
    static func generated(_ source: inout ByteSource) -> RemotePeer {
        RemotePeer(
            aeTitle: .generated(&source), host: source.text(), port: source.integer(),
            tls: source.bool()
                ? PeerTLS(
                    files: TLSFiles(certificate: source.text(), key: source.text(), authorities: source.text()),
                    verifiesHost: source.bool()) : nil)
    }
}

extension SendRequest {
    static func generated(_ source: inout ByteSource) -> SendRequest {
        guard source.bool() else {
            return .echo(
                EchoJob(
                    peer: .generated(&source), callingAETitle: .generated(&source), timeoutSeconds: source.double()))
        }
        return .store(
            StoreJob(
                peer: .generated(&source), callingAETitle: .generated(&source),
                objects: source.array(3) {
                    ComposedObject(path: $0.text(), sopClassUID: .generated(&$0), sopInstanceUID: .generated(&$0))
                },
                connectTimeoutSeconds: source.double(), responseTimeoutSeconds: source.double()))
    }
}

extension SendEvent {
    static func generated(_ source: inout ByteSource) -> SendEvent {
        switch source.below(5) {
        case 0:
            .response(
                sopInstanceUID: .generated(&source), status: UInt16(truncatingIfNeeded: source.integer()),
                comment: source.text())
        case 1: .noPresentationContext(sopInstanceUID: .generated(&source), sopClassUID: .generated(&source))
        case 2: .echoed(status: UInt16(truncatingIfNeeded: source.integer()), milliseconds: source.double())
        case 3: .failed(SendFailure(kind: .timeout, reason: source.text()))
        default: .done
        }
    }
}

extension InferEvent {
    static func generated(_ source: inout ByteSource) -> InferEvent {
        switch source.below(4) {
        case 0:
            .loaded(
                embeddingSize: source.integer(), classCount: source.integer(), mapSize: source.integer(),
                modelDigest: source.text())
        case 1: .encoded(count: source.integer())
        case 2:
            .scored(
                StudyScores(
                    studyLogits: source.array(6) { $0.float() }, attention: source.array(8) { $0.float() },
                    sliceLogits: source.array(8) { $0.float() }))
        default: .failed(reason: source.text())
        }
    }
}
