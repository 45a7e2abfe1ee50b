// What the tests of this target share: real programs to compare with.

import Foundation

/// The octets that pairs of hexadecimal digits are.
func octets(hex: String) -> [UInt8] {
    let digits = Array(hex)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16)! }
}

/// What a real program writes when it is given `input`; throws if it fails.
func output(of program: String, _ arguments: [String], input: [UInt8]) throws -> String {
    let process = Process()
    process.executableURL = URL(filePath: program)
    process.arguments = arguments
    process.environment = ["LC_ALL": "C", "PATH": "/usr/bin:/bin"]
    let name = FileManager.default.temporaryDirectory.appending(path: "slimtad-test-" + UUID().uuidString)
    let source = name.appendingPathExtension("in")
    let result = name.appendingPathExtension("out")
    defer {
        try? FileManager.default.removeItem(at: source)
        try? FileManager.default.removeItem(at: result)
    }
    // Files, not pipes: a program that writes while it reads fills a pipe that nobody empties.
    try Data(input).write(to: source)
    try Data().write(to: result)
    process.standardInput = try FileHandle(forReadingFrom: source)
    process.standardOutput = try FileHandle(forWritingTo: result)
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw ProgramFailed(program: program) }
    return try String(decoding: Data(contentsOf: result), as: UTF8.self)
}

struct ProgramFailed: Error { let program: String }
