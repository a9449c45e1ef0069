import Foundation
@testable import ichnode

#if canImport(FuzzSupport)
import FuzzSupport
#endif

/// Messages of `control.sock`. Input: one byte that chooses the side ("q" a request, else a response), then JSON.
public enum ControlCheck {
    public static func check(_ input: [UInt8]) throws {
        let json = Data(input.dropFirst())
        if input.first == UInt8(ascii: "q") {
            try check(ControlRequest.self, json)
        } else {
            try check(ControlResponse.self, json)
        }
    }

    /// What is read is written as it was read.
    private static func check<Message: Codable>(_ type: Message.Type, _ json: Data) throws {
        guard let message = try? JSONDecoder().decode(type, from: json) else { return }
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let once = try encoder.encode(message)
        let twice = try encoder.encode(try JSONDecoder().decode(type, from: once))
        try require(once == twice, "\(String(decoding: once, as: UTF8.self)) \(String(decoding: twice, as: UTF8.self))")
    }
}
