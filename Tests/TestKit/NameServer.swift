// A real name server on loopback for tests of the resolver and of what uses it: Debian's unbound with data of the test.

import Foundation
import Glibc
import Synchronization

/// An `unbound` that knows the given records and nothing else: every other name does not exist.
///
/// It answers on 127.0.0.1, UDP and TCP, from `init` to `stop`.
package final class NameServer: Sendable {
    package struct Failure: Error {
        package let text: String
    }

    package let port: Int
    private let process: ChildProcess
    private let lifeline = Pipe()

    /// Starts a server with `records` in the format of zone files, such as "example.com. 300 IN MX 10 mx.example.com.".
    ///
    /// Questions for the domains in `refusing`, and below, get REFUSED, which a resolver reports as SERVFAIL; those for
    /// the domains in `silent` get no answer at all. `serverOptions` are more lines for unbound.conf's server clause,
    /// `clauses` are other clauses, which are then asked for what is not in `records`. Without a `port` it is a free one.
    package init(
        records: [String], refusing: [String] = [], silent: [String] = [], serverOptions: [String] = [],
        clauses: [String] = [], port: Int? = nil
    ) throws {
        self.port = try port ?? Self.freePort()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("nameserver-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var lines = [
            "server:", "  interface: 127.0.0.1@\(self.port)", "  port: \(self.port)",
            "  access-control: 127.0.0.0/8 allow",
            "  username: \"\"", "  chroot: \"\"", "  directory: \"\(folder.path)\"", "  pidfile: \"\"",
            "  do-daemonize: no", "  use-syslog: no", "  logfile: \"unbound.log\"", "  verbosity: 0",
            "  num-threads: 1", "  module-config: \"iterator\"",
            "  do-not-query-localhost: no", "  do-ip6: no",
        ]
        if clauses.isEmpty { lines.append("  local-zone: \".\" static") }
        lines += refusing.map { "  local-zone: \"\($0)\" refuse" }
        lines += silent.map { "  local-zone: \"\($0)\" deny" }
        lines += records.map { "  local-data: '\($0)'" }
        lines += serverOptions.map { "  \($0)" }
        lines += clauses
        lines += ["remote-control:", "  control-enable: no"]
        let configuration = folder.appendingPathComponent("unbound.conf")
        try Data((lines.joined(separator: "\n") + "\n").utf8).write(to: configuration)

        // The server ends when the pipe does: with `stop`, and also if the tests crash.
        process = try ChildProcess(
            "/bin/sh",
            [
                "-c", "\"$1\" -d -p -c \"$0\"/unbound.conf & cat > /dev/null; kill -KILL $!; wait; rm -r \"$0\"",
                folder.path, Programs.sbin("unbound", package: "unbound").path,
            ], input: .pipe(lifeline))
        for _ in 0..<500 {
            if Self.canConnect(to: self.port) { return }
            usleep(10_000)
        }
        let log = (try? String(contentsOf: folder.appendingPathComponent("unbound.log"), encoding: .utf8)) ?? "no log"
        stop()
        throw Failure(text: "unbound does not answer on port \(self.port): \(log)")
    }

    deinit { stop() }

    /// Ends the server; it does not answer any more when this returns.
    package func stop() {
        try? lifeline.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    /// The next port to try: each is given once in this process, below those that the kernel gives to connections.
    private static let next = Mutex(12_000 + Int(getpid()) % 10_000)

    /// A port of 127.0.0.1 that nobody used a moment ago, neither for TCP nor for UDP, and that no other test is given.
    package static func freePort() throws -> Int {
        for _ in 0..<100 {
            let wanted = next.withLock { next in
                next += 1
                return next
            }
            let stream = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
            defer { close(stream) }
            let datagram = socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0)
            defer { close(datagram) }
            if bind(stream, port: wanted) != nil, bind(datagram, port: wanted) != nil { return wanted }
        }
        throw Failure(text: "no free port")
    }

    private static func bind(_ socket: CInt, port: Int) -> Int? {
        withAddress(port: port) { address, length in
            var length = length
            guard Glibc.bind(socket, address, length) == 0, getsockname(socket, address, &length) == 0 else {
                return nil
            }
            return address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                Int(UInt16(bigEndian: $0.pointee.sin_port))
            }
        }
    }

    private static func canConnect(to port: Int) -> Bool {
        let stream = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(stream) }
        return withAddress(port: port) { address, length in connect(stream, address, length) == 0 }
    }

    private static func withAddress<Result>(
        port: Int, _ body: (UnsafeMutablePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
