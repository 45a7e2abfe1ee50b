// A whole daemon in this process, on a folder of its own, with real sockets, storage and threads.

import Foundation
import Logging
import SlimtaControl
import SlimtaSystem
import Synchronization
import TestKit

@testable import slimtad

/// A folder that is deleted with the object.
final class Folder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appending(path: "d-\(UUID().uuidString.prefix(8))").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ text: String, to name: String) throws {
        try Data(text.utf8).write(to: URL(filePath: "\(path)/\(name)"), options: .atomic)
    }

    /// The names of what is in a folder of it; none if it does not exist.
    func names(_ name: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: "\(path)/\(name)")) ?? []
    }
}

/// A configuration as the tests vary it.
struct Conf {
    /// Edges by name, with their listening addresses: "sock" is a UNIX socket in the folder.
    var edges: [(name: String, listen: [String])] = [("in", ["in.sock"])]
    /// What all edges say of TLS and AUTH.
    var access = "tls = \"none\"\nauth = \"none\""
    var limits = ""
    var queue = ""
    /// nil: into the maildir of the folder.
    var relay: String?
    var drainTimeout = "20s"
    var more = ""

    func text(_ folder: Folder) -> String {
        var text = """
            hostname = "mx.example.org"
            \(more)
            [daemon]
            state_directory = "\(folder.path)/state"
            runtime_directory = "\(folder.path)/run"
            drain_timeout = "\(drainTimeout)"
            [dns]
            servers = ["127.0.0.1:9"]
            dnssec = "off"
            [limits]
            \(limits)
            [queue]
            minimum_free = 0
            \(queue)
            [relay]
            \(relay ?? "type = \"maildir\"\npath = \"\(folder.path)/mail\"")

            """
        for edge in edges {
            let listen = edge.listen.map { $0.hasSuffix(".sock") ? "\"unix:\(folder.path)/\($0)\"" : "\"\($0)\"" }
            text += """
                [[edge]]
                name = "\(edge.name)"
                type = "smtp"
                listen = [\(listen.joined(separator: ", "))]
                \(access)
                banner = "220 {hostname} \(edge.name)"

                """
        }
        return text
    }
}

/// The daemon while it runs.
final class DaemonFixture: Sendable {
    let folder: Folder
    let log: KeptLog
    /// What others may know of it.
    let state: DaemonState
    let ground: Ground
    private let signals: AsyncStream<Signal>.Continuation
    private let running: Task<Void, Never>

    /// Starts as `slimtad run` does, but for what concerns the whole process; returns when it is ready.
    init(_ conf: Conf = Conf(), _ folder: Folder? = nil, fileLimit: Int = 4096) async throws {
        let folder = try folder ?? Folder()
        let log = KeptLog()
        let logger = Logger(label: "daemon") { _ in log }
        try folder.write(conf.text(folder), to: "slimta.conf")
        let preparation = try Preparation(
            ConfigurationFile.parse("\(folder.path)/slimta.conf"), identity: nil, logger: logger)
        let daemon = try await Daemon.start(
            preparation, budget: FileBudget(limit: FileLimits.openCount + fileLimit), level: SharedLogLevel(.info),
            logger: logger)
        let (stream, continuation) = AsyncStream.makeStream(of: Signal.self)
        (self.folder, self.log, signals) = (folder, log, continuation)
        (state, ground) = (daemon.state, daemon.ground)
        running = Task { await daemon.run(stream) {} }
    }

    /// Writes a new configuration and has it taken, as `slimtad reload` does.
    func reload(_ conf: Conf) async throws -> ReloadResult {
        try folder.write(conf.text(folder), to: "slimta.conf")
        return await reload()
    }

    func reload() async -> ReloadResult {
        await withCheckedContinuation { continuation in
            state.orders.yield(.reload { continuation.resume(returning: $0) })
        }
    }

    func signal(_ signal: Signal) { signals.yield(signal) }

    /// Returns when it has ended.
    func end() async { await running.value }

    func stop() async {
        signal(.terminate)
        await end()
    }

    func client(_ name: String = "in.sock") async throws -> LineClient {
        try await LineClient(path: "\(folder.path)/\(name)")
    }

    /// The greeting there; nil: nobody listens.
    func greeting(_ name: String) async -> String? {
        guard let client = try? await client(name) else { return nil }
        return await client.line()
    }

    /// Submits a message; the reply to its end.
    func submit(_ subject: String) async throws -> String? {
        let client = try await client()
        _ = await client.line()
        return try await client.submit(subject)
    }

    /// The subjects of what is in the maildir.
    var delivered: [String] {
        folder.names("mail/new").compactMap { name in
            let text = try? String(contentsOfFile: "\(folder.path)/mail/new/\(name)", encoding: .utf8)
            return text?.split(whereSeparator: \.isNewline).first { $0.hasPrefix("Subject: ") }.map {
                String($0.dropFirst("Subject: ".count))
            }
        }.sorted()
    }
}

extension LineClient {
    /// A transaction with one message; the reply to its end, or the first that refuses.
    func submit(_ subject: String) async throws -> String? {
        for command in ["EHLO client", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA"] {
            let reply = try await ask(command)
            guard let code = reply?.first, "23".contains(code) else { return reply }
        }
        return try await ask("Subject: \(subject)\r\n\r\ntext\r\n.")
    }
}

/// Waits until something holds, for as long as a busy machine may need.
func wait(_ what: String, _ condition: () -> Bool) async throws {
    for _ in 0..<3000 {
        if condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    struct Waited: Error { let what: String }
    throw Waited(what: what)
}

/// A log handler that keeps what it gets.
final class KeptLog: LogHandler {
    private let kept = Mutex<[String]>([])

    var logLevel: Logger.Level {
        get { .info }
        set {}
    }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let fields = (event.metadata ?? [:]).map { "\($0)=\($1)" }.sorted().joined(separator: " ")
        kept.withLock { $0.append("\(event.message) \(fields)") }
    }

    /// Those that begin so.
    func lines(_ message: String) -> [String] { kept.withLock { $0.filter { $0.hasPrefix(message) } } }
}
