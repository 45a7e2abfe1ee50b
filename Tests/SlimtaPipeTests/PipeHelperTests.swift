// The helper as the daemon's connections find it: whom it still runs a command for.

import CLinux
import Foundation
import SlimtaMail
import Synchronization
import Testing

@testable import SlimtaPipe

@Suite(.timeLimit(.minutes(2))) struct PipeHelperTests {
    private static func address(_ path: String) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return address
    }

    private static func call(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        withUnsafePointer(to: address(path)) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    /// A connection over which a request for `name` has gone.
    private static func ask(_ path: String, _ name: String) throws -> Int32 {
        let client = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
        try #require(call(path) { connect(client, $0, $1) } == 0)
        let pipe = PipeRequest.Pipe(command: [name], environment: [], user: nil, timeout: 1000)
        let recipient = try #require(Mailbox(parsing: "a@x.test"))
        let values = CommandValues(sender: nil, recipient: recipient, queueID: QueueID(high: 1, low: 1))
        let octets = try #require(PipeRequest(pipe, values).octets)
        let file = open("/dev/null", O_RDONLY)
        defer { close(file) }
        try #require(linux_send_file(client, octets, octets.count, file) == 0)
        return client
    }

    /// A daemon that has given up while its request waited asks again later: run now, the command would run twice.
    @Test func whoHasGoneBeforeTheStartIsNotServed() throws {
        let path = "/tmp/slimtad-helper-\(getpid())"
        let listener = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        unlink(path)
        defer { unlink(path) }
        try #require(Self.call(path) { bind(listener, $0, $1) } == 0 && listen(listener, 10) == 0)
        close(try Self.ask(path, "/gone"))
        let client = try Self.ask(path, "/here")
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        let (lifeline, asked) = (ends[0], Asked())
        let helper = Thread {
            let helper = PipeHelper(
                listener: listener, lifeline: lifeline, limit: 10, mayAsk: { _ in true },
                judge: { pipe in
                    asked.note(pipe.command[0])
                    return .refuse("no")
                })
            helper.run()
            asked.note("end")
        }
        helper.start()
        var answer = [UInt8](repeating: 0, count: 1000)
        // In their order: when the second has its answer, the first has had its turn.
        let count = read(client, &answer, answer.count)
        #expect(count > 0)
        #expect(asked.names.withLock { $0 } == ["/here"])
        for descriptor in [client, ends[1]] { close(descriptor) }
        while asked.names.withLock({ $0.last != "end" }) { usleep(1000) }
        for descriptor in [listener, ends[0]] { close(descriptor) }
    }

    private final class Asked: Sendable {
        let names = Mutex<[String]>([])

        func note(_ name: String) { names.withLock { $0.append(name) } }
    }
}
