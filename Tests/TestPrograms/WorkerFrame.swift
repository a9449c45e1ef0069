public import Foundation

/// A message as a worker sends it over its channel (`Frame`): length and kind before it.
public func workerFrame(_ message: some Encodable) throws -> Data {
    let payload = try JSONEncoder().encode(message)
    let length = payload.count + 1
    return Data([0, 0, UInt8(length >> 8), UInt8(length & 255), 1]) + payload
}
