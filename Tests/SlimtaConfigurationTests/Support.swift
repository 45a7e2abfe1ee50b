// What the tests of slimta.conf share.

import Glibc
import Testing

@testable import SlimtaConfiguration

/// The errors of a text that must not parse, one line each; without the file's name.
func mistakes(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) -> [String] {
    do {
        _ = try Configuration.parse(text, file: "f")
        Issue.record("it parsed", sourceLocation: sourceLocation)
        return []
    } catch {
        return error.errors.map { String($0.description.dropFirst(2)) }
    }
}

/// An edge that needs nothing else.
let edge = """
    [[edge]]
    name = "in"
    type = "smtp"
    listen = ["127.0.0.1:2525"]
    tls = "none"
    auth = "none"
    # seven lines

    """

/// A file relative to the package's root.
func readFile(_ path: String) throws -> String {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let file = try #require(fopen("/\(root)/\(path)", "r"), "cannot open \(path)")
    defer { fclose(file) }
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { content += buffer.prefix(count) }
    return String(decoding: content, as: UTF8.self)
}

/// A text that must not parse, and the errors that it has to have, or how each begins.
struct Case: CustomTestStringConvertible {
    var text: String
    var errors: [String]

    init(_ text: String, _ errors: String...) {
        self.text = text
        self.errors = errors
    }

    var testDescription: String { text }
}
