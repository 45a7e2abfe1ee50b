// What the tests of this target share.

import Glibc
import Testing

/// A directory of its own for each user of it, removed at the end.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/slimtad-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        guard let directory = opendir(path) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { unlink(path + "/" + name) }
        }
        closedir(directory)
        rmdir(path)
    }

    subscript(name: String) -> String { path + "/" + name }
}

func write(_ text: String, to path: String, mode: mode_t = 0o600) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode)
    try #require(file >= 0)
    fchmod(file, mode)
    let bytes = Array(text.utf8)
    try #require(write(file, bytes, bytes.count) == bytes.count)
    close(file)
}

/// The content; nil if there is no such file.
func content(_ path: String) -> String? {
    let file = open(path, O_RDONLY)
    guard file >= 0 else { return nil }
    defer { close(file) }
    return drain(file)
}

/// All that can be read, or as much as has so many lines.
func drain(_ descriptor: Int32, lines: Int = .max) -> String {
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    var found = 0
    while found < lines, case let count = read(descriptor, &buffer, buffer.count), count > 0 {
        content += buffer.prefix(count)
        found += buffer.prefix(count).count { $0 == 10 }
    }
    return String(decoding: content, as: UTF8.self)
}

/// A line of /proc/thread-self/status, without its name: what is a thread's own, such as capabilities.
func ownStatus(_ name: String) -> String? {
    content("/proc/thread-self/status")?.split(separator: "\n").first { $0.hasPrefix(name + ":") }
        .map { $0.dropFirst(name.count + 1).split(whereSeparator: { $0 == "\t" || $0 == " " }).joined(separator: " ") }
}
