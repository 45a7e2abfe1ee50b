// Postfix's smtp-sink as a mail exchanger: a server that nobody here wrote, with options to misbehave.

import Foundation
import Glibc
import TestKit

/// Runs from `init` to `stop`; what it takes is in ``messages``.
final class Sink: Sendable {
    struct Failure: Error {
        let text: String
    }

    let address: String
    let port: Int
    private let process: ChildProcess
    private let folder: String

    /// - Parameter options: of smtp-sink(1), such as ["-r", "RCPT"].
    init(_ address: String, _ port: Int, _ options: [String] = []) throws {
        self.address = address
        self.port = port
        folder = try Fixture.folder()
        // Started as root it wants to be somebody else, who has to be able to write.
        chmod(folder, 0o777)
        let arguments =
            (getuid() == 0 ? ["-u", "nobody"] : []) + options
            + [
                "-h", "sink.test", "-d", folder + "/m", "\(address.contains(":") ? "[\(address)]" : address):\(port)",
                "1000",
            ]
        process = try ChildProcess(
            Programs.sbin("smtp-sink", package: "postfix").path, arguments,
            environment: Programs.environment(package: "postfix"), output: .inherited)
        for _ in 0..<500 {
            guard process.isRunning else { throw Failure(text: "smtp-sink ended: \(arguments)") }
            if Self.isListening(address, port) { return }
            usleep(10_000)
        }
        stop()
        throw Failure(text: "smtp-sink does not answer")
    }

    deinit { stop() }

    func stop() {
        if process.isRunning {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        Fixture.removeFolder(folder)
    }

    /// A message, as it came.
    struct Received {
        let mail: String
        let recipients: [String]
        /// Lines end in LF, as in the dump.
        let content: String
    }

    /// All messages that were taken to their end.
    var messages: [Received] {
        Fixture.files(in: folder).compactMap { file in
            let text = Fixture.read(file)
            // The dump: X-... fields, a Received of three lines, then the message and an empty line.
            guard let received = text.range(of: "\nReceived: from "), text.hasSuffix("\n\n") else { return nil }
            let head = text[..<received.lowerBound].split(separator: "\n")
            func values(_ name: String) -> [String] {
                head.filter { $0.hasPrefix(name + ": ") }.map { String($0.dropFirst(name.count + 2)) }
            }
            let lines = text[text.index(after: received.lowerBound)...]
                .split(separator: "\n", omittingEmptySubsequences: false)
            return Received(
                mail: values("X-Mail-Args").first ?? "", recipients: values("X-Rcpt-Args"),
                content: lines.dropFirst(3).dropLast().joined(separator: "\n"))
        }
    }

    /// A file of /proc says that it is empty, so it has to be read to its end.
    private static func readAll(_ path: String) -> String {
        let data = try? FileHandle(forReadingAtPath: path)?.readToEnd()
        return String(decoding: (data ?? nil) ?? Data(), as: UTF8.self)
    }

    /// Whether something listens, found out without connecting: a connection would count.
    private static func isListening(_ address: String, _ port: Int) -> Bool {
        let sockets = Self.readAll("/proc/net/tcp") + Self.readAll("/proc/net/tcp6")
        let hex = String(port, radix: 16, uppercase: true)
        let suffix = ":" + String(repeating: "0", count: 4 - hex.count) + hex
        return sockets.split(separator: "\n").contains { line in
            let fields = line.split(separator: " ")
            guard fields.count > 3, fields[3] == "0A", fields[1].hasSuffix(suffix) else { return false }
            guard !address.contains(":") else { return fields[1].count > 13 }
            let octets = address.split(separator: ".").compactMap { UInt8($0) }.reversed()
            let wanted = octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) }.joined()
            return fields[1].hasPrefix(wanted)
        }
    }
}
