// Where the programs are that tests run and nobody here wrote: on the machine, or unpacked below .venv/debian by
// `.ci/deps test`, which does not install what would start a service.

package import Foundation

package enum Programs {
    static let unpacked = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../.venv/debian").standardizedFileURL

    /// The program `name` of /usr/sbin, of the Debian package `package`.
    package static func sbin(_ name: String, package: String) -> URL {
        let installed = URL(filePath: "/usr/sbin/\(name)")
        if FileManager.default.isExecutableFile(atPath: installed.path) { return installed }
        return unpacked.appending(path: "\(package)/usr/sbin/\(name)")
    }

    /// The environment that it needs to find the libraries of its package.
    package static func environment(package: String) -> [String: String] {
        ProcessInfo.processInfo.environment.merging(
            ["LD_LIBRARY_PATH": unpacked.appending(path: "\(package)/usr/lib/\(package)").path],
            uniquingKeysWith: { $1 })
    }
}

/// What a real program writes when it is given `input`; throws if it fails.
package func output(of program: String, _ arguments: [String], zone: String = "UTC", input: [UInt8]) throws -> String {
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
    let process = try ChildProcess(
        program, arguments, environment: ["TZ": zone, "LC_ALL": "C", "PATH": "/usr/bin:/bin"],
        input: .file(FileHandle(forReadingFrom: source)), output: .file(FileHandle(forWritingTo: result)),
        errors: .inherited)
    guard process.waitUntilExit() == 0 else { throw ProgramFailed(program: program) }
    return try String(decoding: Data(contentsOf: result), as: UTF8.self)
}

private struct ProgramFailed: Error { let program: String }
