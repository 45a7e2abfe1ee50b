// The network between a client and a database server, for tests of what a client makes of it: cut, frozen, or losing just the
// answer to a commit.

import Foundation
import Glibc
import Synchronization

/// Passes what comes to a port of 127.0.0.1 on to another one, in a thread of its own, until it is stopped or forgotten.
package final class PostgresLink: Sendable {
    package enum Mode: Hashable, Sendable {
        case pass
        /// All connections are reset, and new ones refused.
        case refuse
        /// Nothing is carried and nothing closed. What is under way comes when it passes again.
        case silent
        /// The next connection in which a client says these octets: the server hears them and answers, the answer is
        /// swallowed, and the connection is closed when it is whole. Then it passes again. Better something of the values:
        /// the name of a statement is said when it is prepared too.
        case loseAnswer(toClientDataContaining: [UInt8])
        /// The next connection in which a client says these octets: it is closed, and the server does not hear them. Then it
        /// passes again.
        case loseQuestion(containing: [UInt8])
    }

    package struct Failure: Error {
        package let text: String
    }

    /// Where clients connect to.
    package let port: Int
    private let control = LinkControl()
    /// The ends of a pipe that the thread is waken by: reader, writer.
    private let wake: [Int32]

    /// A link to a port.
    package init(to target: Int) throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw Failure(text: "no pipe") }
        wake = ends
        // One that was looked for before may be somebody else's by now.
        guard let listener = Loopback.listen(0), let port = Loopback.port(of: listener) else {
            throw Failure(text: "no port")
        }
        self.port = port
        let forwarded = (listens: port, target: target, wake: ends[0])
        Thread.detachNewThread { [control] in
            let forwarder = Forwarder(control, listener, forwarded)
            forwarder.run()
        }
    }

    deinit {
        stop()
        for end in wake { close(end) }
    }

    /// What it does now.
    package var mode: Mode { control.values.withLock { $0.mode } }

    /// How many connections have lost an answer or a question.
    package var losses: Int { control.values.withLock { $0.losses } }

    /// Does something else from now on: it does when this returns.
    package func set(_ mode: Mode) {
        change { $0.mode = mode }
    }

    /// Ends it, and all of its connections.
    package func stop() {
        change { $0.isStopped = true }
    }

    private func change(_ body: (inout sending LinkControl.Values) -> Void) {
        let wanted = control.values.withLock { values in
            body(&values)
            values.changes += 1
            return values.changes
        }
        var octet: UInt8 = 0
        _ = write(wake[1], &octet, 1)
        for _ in 0..<5_000 {
            if control.values.withLock({ $0.applied >= wanted || $0.hasEnded }) { return }
            usleep(1_000)
        }
    }
}

/// What the thread is told, and tells.
private final class LinkControl: Sendable {
    struct Values {
        var mode = PostgresLink.Mode.pass
        var isStopped = false
        var changes = 0
        var applied = 0
        var hasEnded = false
        var losses = 0
    }

    let values = Mutex(Values())
}

/// Sockets of 127.0.0.1 that do not block.
private enum Loopback {
    /// - Parameter port: 0 for one that nobody has.
    static func listen(_ port: Int) -> Int32? {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var yes: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
        if with(port, { bind(listener, $0, $1) }) == 0, Glibc.listen(listener, 64) == 0 { return listener }
        close(listener)
        return nil
    }

    static func port(of listener: Int32) -> Int? {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isKnown = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(listener, $0, &length) } == 0
        }
        return isKnown ? Int(UInt16(bigEndian: address.sin_port)) : nil
    }

    static func connect(to port: Int) -> Int32? {
        let stream = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard with(port, { Glibc.connect(stream, $0, $1) }) == 0 else {
            close(stream)
            return nil
        }
        _ = fcntl(stream, F_SETFL, O_NONBLOCK)
        return stream
    }

    static func reset(_ stream: Int32) {
        var none = linger(l_onoff: 1, l_linger: 0)
        setsockopt(stream, SOL_SOCKET, SO_LINGER, &none, socklen_t(MemoryLayout<linger>.size))
        close(stream)
    }

    private static func with(_ port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }
}

/// The two sockets of a connection, and what waits to be written to them.
private struct Passage {
    let client: Int32
    let server: Int32
    var toClient: [UInt8] = []
    var toServer: [UInt8] = []
    /// The last that the client has said, for what is looked for may be in two pieces.
    var lastWords: [UInt8] = []
    /// What the server has answered since then and nobody hears; nil: it is heard.
    var swallowed: [UInt8]?
    /// To be closed when all is written.
    var isEnding = false
    var isOver = false

    /// Octets that may wait before no more are read.
    static let limit = 1 << 20

    func polled(_ isSilent: Bool) -> [pollfd] {
        func entry(_ stream: Int32, _ waiting: [UInt8], _ other: [UInt8]) -> pollfd {
            let reads = other.count < Self.limit && !isEnding ? POLLIN : 0
            let writes = waiting.isEmpty ? 0 : POLLOUT
            return pollfd(fd: isSilent ? -1 : stream, events: Int16(reads | writes), revents: 0)
        }
        return [entry(client, toClient, toServer), entry(server, toServer, toClient)]
    }

    /// Whether the answer is whole: it ends with ReadyForQuery.
    var isAnswered: Bool {
        guard let tail = swallowed?.suffix(6), tail.count == 6 else { return false }
        return tail.starts(with: [UInt8(ascii: "Z"), 0, 0, 0, 5])
    }
}

/// The thread's.
private final class Forwarder {
    private let control: LinkControl
    private let port: Int
    private let target: Int
    private let wake: Int32
    private var listener: Int32
    private var passages: [Passage] = []
    private var mode = PostgresLink.Mode.pass

    init(_ control: LinkControl, _ listener: Int32, _ ports: (listens: Int, target: Int, wake: Int32)) {
        (self.control, self.listener) = (control, listener)
        (port, target, wake) = (ports.listens, ports.target, ports.wake)
    }

    func run() {
        while apply() {
            let isSilent = mode == .silent
            var entries = [
                pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isSilent ? -1 : listener, events: Int16(POLLIN), revents: 0),
            ]
            for passage in passages { entries += passage.polled(isSilent) }
            poll(&entries, nfds_t(entries.count), 1_000)
            if entries[0].revents != 0 {
                var octets = [UInt8](repeating: 0, count: 64)
                _ = Glibc.read(wake, &octets, 64)
                // What has been told comes before anything that is carried.
                continue
            }
            for place in passages.indices {
                serve(place, client: entries[2 + 2 * place].revents != 0, server: entries[3 + 2 * place].revents != 0)
            }
            for passage in passages where passage.isOver { end(passage) }
            passages.removeAll(where: \.isOver)
            if entries[1].revents != 0 { accept() }
        }
        for passage in passages { end(passage) }
        if listener >= 0 { close(listener) }
        control.values.withLock { $0.hasEnded = true }
    }

    /// Does what it was told; false: it is to end.
    private func apply() -> Bool {
        let (isStopped, changes) = control.values.withLock { values in
            mode = values.mode
            return (values.isStopped, values.changes)
        }
        if isStopped { return false }
        if mode == .refuse {
            for passage in passages { end(passage) }
            passages = []
            if listener >= 0 { close(listener) }
            listener = -1
        } else if listener < 0 {
            listener = Loopback.listen(port) ?? -1
        }
        control.values.withLock { $0.applied = changes }
        return true
    }

    private func accept() {
        let client = Glibc.accept(listener, nil, nil)
        guard client >= 0 else { return }
        guard let server = Loopback.connect(to: target) else { return Loopback.reset(client) }
        _ = fcntl(client, F_SETFL, O_NONBLOCK)
        passages.append(Passage(client: client, server: server))
    }

    private func end(_ passage: Passage) {
        Loopback.reset(passage.client)
        close(passage.server)
    }

    private func serve(_ place: Int, client: Bool, server: Bool) {
        if client { readClient(place) }
        if server { readServer(place) }
        Self.write(&passages[place].toServer, to: passages[place].server)
        Self.write(&passages[place].toClient, to: passages[place].client)
        let passage = passages[place]
        if passage.isEnding, passage.toClient.isEmpty, passage.toServer.isEmpty { passages[place].isOver = true }
    }

    /// nil: nothing is there; empty: it has ended.
    private static func read(_ stream: Int32) -> [UInt8]? {
        var octets = [UInt8](repeating: 0, count: 1 << 16)
        let count = Glibc.read(stream, &octets, octets.count)
        if count < 0, errno == EAGAIN || errno == EINTR { return nil }
        return Array(octets.prefix(max(0, count)))
    }

    private static func write(_ octets: inout [UInt8], to stream: Int32) {
        guard !octets.isEmpty else { return }
        let count = send(stream, octets, octets.count, Int32(MSG_NOSIGNAL))
        if count > 0 { octets.removeFirst(count) }
        if count < 0, errno != EAGAIN, errno != EINTR { octets = [] }
    }

    private func readClient(_ place: Int) {
        guard passages[place].toServer.count < Passage.limit, let octets = Self.read(passages[place].client) else {
            return
        }
        guard !octets.isEmpty else { return passages[place].isEnding = true }
        switch mode {
        case .loseAnswer(let words) where hears(place, octets, words):
            passages[place].swallowed = []
            lost()
        case .loseQuestion(let words) where hears(place, octets, words):
            passages[place].isOver = true
            return lost()
        default: break
        }
        passages[place].toServer += octets
    }

    private func hears(_ place: Int, _ octets: [UInt8], _ words: [UInt8]) -> Bool {
        let said = passages[place].lastWords + octets
        passages[place].lastWords = said.suffix(max(0, words.count - 1))
        return said.firstRange(of: words) != nil
    }

    /// Once: whoever comes again is served.
    private func lost() {
        mode = .pass
        control.values.withLock { values in
            values.mode = .pass
            values.losses += 1
        }
    }

    private func readServer(_ place: Int) {
        guard passages[place].toClient.count < Passage.limit, let octets = Self.read(passages[place].server) else {
            return
        }
        guard !octets.isEmpty else { return passages[place].isEnding = true }
        if let swallowed = passages[place].swallowed {
            passages[place].swallowed = Array((swallowed + octets).suffix(6))
            if passages[place].isAnswered { passages[place].isOver = true }
        } else {
            passages[place].toClient += octets
        }
    }
}
