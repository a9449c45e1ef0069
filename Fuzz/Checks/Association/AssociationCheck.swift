@testable import StoreSCP
@testable import WorkerProtocol

#if canImport(FuzzSupport)
import FuzzSupport
#endif

/// What the daemon makes of a connection's first bytes, before a worker sees them. Input: the bytes.
public enum AssociationCheck {
    /// As `AssociationListener` decides on what it has peeked.
    enum Answer: Equatable {
        case waits
        case refuses(String)
        case rejects(Rejection)
        case admits(AssociationRequest)
    }

    private static let called = ["ICHNODE", "NODE 2"]
    private static let calling = ["CT1", "STORESCU", "PYNETDICOM", "ORTHANC"]
    private static let rules = AdmissionRules(
        calledAETitles: called.compactMap { AETitle($0) }, callingAETitles: calling.compactMap { AETitle($0) },
        allowedNetworks: [])
    private static let fullRules: AdmissionRules = {
        var rules = Self.rules
        rules.hasRoom = { false }
        return rules
    }()
    /// Result, source and reason that PS3.8 Table 9-21 defines and we use.
    private static let defined: Set<[UInt8]> = [[1, 1, 3], [1, 1, 7], [1, 2, 2]]

    public static func check(_ input: [UInt8]) throws {
        let answer = answer(input)
        try checkAnswer(answer, input)
        try checkArrival(answer, input)
        try compareWithSlowReader(answer, input)
        try checkHello(input)
    }

    private static func answer(_ bytes: [UInt8]) -> Answer {
        do throws(AssociationRequest.Problem) {
            guard bytes.count >= AssociationRequest.headerBytes else {
                return bytes.isEmpty || bytes[0] == 1 ? .waits : .refuses("notDICOM")
            }
            let length = try AssociationRequest.length(header: bytes.prefix(AssociationRequest.headerBytes))
            guard bytes.count >= length else { return .waits }
            let request = try AssociationRequest(pdu: Array(bytes.prefix(length)))
            return rules.rejection(of: request).map(Answer.rejects) ?? .admits(request)
        } catch {
            return .refuses(String("\(error)".prefix { $0 != "(" }))
        }
    }

    private static func checkAnswer(_ answer: Answer, _ input: [UInt8]) throws {
        switch answer {
        case .waits: try require(input.count < AssociationRequest.mostBytes, "waits for more than the limit")
        case .refuses(let problem):
            try require(["notDICOM", "tooLong", "tooShort"].contains(problem), "an unknown problem \(problem)")
        case .rejects(let rejection):
            try require(
                defined.contains([rejection.result, rejection.source, rejection.reason]), "\(rejection)")
            try require(
                rejection.pdu == [3, 0, 0, 0, 0, 4, 0, rejection.result, rejection.source, rejection.reason],
                "\(rejection.pdu)")
            // It goes to the log.
            try require(
                rejection.text.unicodeScalars.allSatisfy { (0x20..<0x7F).contains($0.value) }, rejection.text)
        case .admits(let request):
            try require(called.contains(request.calledAETitle), "admits called AE title \(request.calledAETitle)")
            try require(calling.contains(request.callingAETitle), "admits calling AE title \(request.callingAETitle)")
        }
    }

    /// Bytes arrive one after another: an answer once given stands, and nothing behind the request changes it.
    private static func checkArrival(_ answer: Answer, _ input: [UInt8]) throws {
        var earlier = Answer.waits
        let announced = input.count < 6 ? 0 : input[2..<6].reduce(6) { $0 == 6 ? Int($1) : $0 << 8 | Int($1) }
        let interesting = Array(0...min(input.count, 80)) + [announced + 5, announced + 6, announced + 7]
        for count in interesting.sorted() where count <= input.count {
            let now = self.answer(Array(input.prefix(count)))
            try require(earlier == .waits || earlier == now, "\(earlier), then \(now) after \(count) bytes")
            earlier = now
        }
        try require(earlier == .waits || earlier == answer, "\(earlier), then \(answer)")
    }

    /// The same on the TLS port, where no more than the header of the first record is looked at.
    private static func checkHello(_ input: [UInt8]) throws {
        guard !input.isEmpty else { return }
        let answers = (1...min(input.count, 8)).map { count in
            Result { () throws(TLSHello.Problem) in try TLSHello.length(input.prefix(count)) }
        }
        for (earlier, later) in zip(answers, answers.dropFirst()) where earlier != .success(nil) {
            try require(earlier == later, "\(earlier), then \(later)")
        }
        guard case .success(let length?) = answers.last else { return }
        try require(input[0] == 0x16 && input[1] == 3 && (6...5 + 16_384).contains(length), "a record of \(length)")
    }

    private static func compareWithSlowReader(_ answer: Answer, _ input: [UInt8]) throws {
        guard let slow = SlowAssociationRequest(input) else { return }
        if slow.protocolVersion % 2 == 0 {
            try require(answer == .rejects(.protocolVersion), "\(answer), version \(slow.protocolVersion)")
        } else if !called.contains(slow.calledAETitle) {
            try require(answer == .rejects(.calledAETitle(slow.calledAETitle)), "\(answer), \(slow)")
        } else if !calling.contains(slow.callingAETitle) {
            try require(answer == .rejects(.callingAETitle(slow.callingAETitle)), "\(answer), \(slow)")
        } else {
            guard case .admits(let request) = answer else { throw Violation("\(answer), \(slow)") }
            try require(request.calledAETitle == slow.calledAETitle, "called \(answer), \(slow)")
            try require(request.callingAETitle == slow.callingAETitle, "calling \(answer), \(slow)")
            try require(request.proposesStorage == slow.proposesStorage, "storage \(answer), \(slow)")
            let expected = slow.proposesStorage ? Rejection.diskFull : nil
            try require(fullRules.rejection(of: request) == expected, "on a full disk")
        }
    }
}
