// Our own test data, Tests/Fixtures: cases of the same rules as other people's vectors in ../shared (SharedFiles.swift),
// which a plain clone does not have.

package import Foundation

/// The files of Tests/Fixtures.
package enum Fixtures {
    package static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../Fixtures").standardizedFileURL

    /// The octets of a file.
    package static func file(_ path: String) throws -> [UInt8] {
        try Array(Data(contentsOf: directory.appending(path: path)))
    }

    /// What a JSON file says.
    package static func json<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(file(path)))
    }
}

/// A sequence of octets that does not end mail data (RFC 5321 section 4.1.1.4: only CRLF "." CRLF does).
package struct NoEndOfData: Decodable, Sendable {
    package let id: String
    package let hex: String

    /// The sequence.
    package var octets: [UInt8] {
        stride(from: 0, to: hex.count, by: 2).map { place in
            let start = hex.index(hex.startIndex, offsetBy: place)
            return UInt8(hex[start...].prefix(2), radix: 16) ?? 0
        }
    }

    private struct File: Decodable {
        let sequences: [NoEndOfData]
    }

    /// Our own, each pair of line ends but CRLF and CRLF around the dot, and NUL beside it; and what public scanners send,
    /// where ``SharedFiles/areThere``.
    package static func all() throws -> [NoEndOfData] {
        let ours = try Fixtures.json(File.self, "no-end-of-data.json").sequences
        return try ours + (SharedFiles.areThere ? scanners() : [])
    }

    /// What public scanners send.
    package static func scanners() throws -> [NoEndOfData] {
        try SharedFiles.vector(File.self, "smtp-smuggling/sequences.json").sequences
    }
}
