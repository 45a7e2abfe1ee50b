// Test data that lies beside the repository, in ../shared: other people's vectors, and the configuration's contract. A
// clone that is somewhere else has none of it: tests that need it are then skipped, and say so.

package import Foundation

/// The files of ../shared.
package enum SharedFiles {
    package static let directory = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../../shared").standardizedFileURL
    package static let vectors = directory.appending(path: "vectors")

    /// For `.enabled(if:)`.
    package static let areThere = FileManager.default.fileExists(atPath: vectors.path)

    /// The octets of a file of the test vectors.
    package static func vector(_ path: String) throws -> [UInt8] {
        try Array(Data(contentsOf: vectors.appending(path: path)))
    }

    /// What a JSON file of the test vectors says; its keys are in snake case.
    package static func vector<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(type, from: Data(vector(path)))
    }
}
