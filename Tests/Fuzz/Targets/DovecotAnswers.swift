// What Dovecot's authentication service says, or whoever has taken its socket: lines, and the machine that they drive.

import NIOCore
import SlimtaMail
import SlimtaSASL

@testable import SlimtaEdge

extension FuzzTarget {
    /// Lines are the same however they come, nothing is kept without bound, each exchange has one end, and nobody is let in
    /// but by an OK of his own exchange when it was Dovecot's turn.
    static let dovecot = FuzzTarget(name: "dovecot", maximumLength: 1000) { octets in
        let read = try anyCut(octets) { chunks in
            var (lines, reader) = (ReadLines(), DovecotLineReader())
            for var chunk in chunks where lines.fault == nil {
                do { while let line = try reader.read(&chunk) { lines.lines.append(line) } } catch {
                    lines.fault = "\(error)"
                }
            }
            return lines
        }
        let encoded = DovecotEscape.encoded(octets)
        try same(DovecotEscape.decoded(encoded), octets, "what was escaped")
        try hold(!encoded.contains { [0, 9, 10, 13].contains($0) }, "an octet that ends a word")
        var session = DovecotSession()
        try session.run(read.lines)
    }
}

private struct ReadLines: Equatable {
    var lines: [DovecotLine] = []
    var fault: String?
}

/// A machine that is told lines, with exchanges that begin and go on between them.
private struct DovecotSession {
    private var machine = DovecotMachine()
    private var now = NIODeadline.uptimeNanoseconds(1)
    private var connection: DovecotMachine.ConnectionID = 0
    /// Those that wait for Dovecot, and those that wait for the client.
    private var (dovecots, clients): (Set<DovecotMachine.ID>, Set<DovecotMachine.ID>) = ([], [])

    mutating func run(_ lines: [DovecotLine]) throws {
        try perform(machine.started(now), saying: nil)
        for line in lines {
            now = now + .milliseconds(700)
            if machine.isReady { try step() }
            guard let message = try? DovecotMessage(line) else {
                try perform(machine.failed(connection, "cannot be read", now), saying: nil)
                continue
            }
            try perform(machine.received(connection, message, now), saying: message)
            if let due = machine.nextDue, due <= now { try perform(machine.timePassed(now), saying: nil) }
        }
        try perform(machine.stopped(), saying: nil)
        try hold(dovecots.isEmpty, "exchanges without an answer: \(dovecots)")
        try same(machine.exchangeCount, 0, "exchanges of a machine that has stopped")
    }

    /// An exchange begins, and one goes on.
    private mutating func step() throws {
        let id = machine.nextID()
        try hold(id != 0 && !dovecots.contains(id) && !clients.contains(id), "a number that is in use")
        dovecots.insert(id)
        let name = machine.mechanisms?.min() ?? "PLAIN"
        let request = DovecotRequest(mechanism: name, parameters: [], initialResponse: SecretOctets([0]))
        try perform(machine.began(id, request, now), saying: nil)
        guard let next = clients.min() else { return }
        clients.remove(next)
        if next % 3 == 0 { return try perform(machine.abandoned(next), saying: nil) }
        dovecots.insert(next)
        try perform(machine.responded(next, SecretOctets([1]), now), saying: nil)
    }

    private mutating func perform(_ actions: [DovecotMachine.Action], saying message: DovecotMessage?) throws {
        for action in actions {
            switch action {
            case .connect(let id):
                try hold(id > connection, "a connection that was before")
                connection = id
                try perform(machine.connected(id, as: 1, now), saying: nil)
            case .send(let id, let line):
                try same(id, connection, "the connection of what is sent")
                try hold(line.last == 10 && line.count <= DovecotLineReader.longest, "no line: \(line)")
            case .close(let id): try same(id, connection, "the connection that is closed")
            case .answer(let id, let answer):
                try hold(dovecots.remove(id) != nil, "an answer that nobody waits for: \(id)")
                switch answer {
                case .challenge: clients.insert(id)
                case .right(let login, _):
                    guard case .success(id, let fields) = message else {
                        throw Broken(description: "let in by nothing")
                    }
                    try same(login, fields["user"], "who is let in")
                    try hold(!login.isEmpty && !fields.contains("nologin"), "somebody is let in who may not")
                case .refused(let reason), .unavailable(let reason): try Self.judge(reason)
                case .wrong: break
                }
            case .tellLost(let reason): try Self.judge(reason)
            case .tellReady: break
            }
        }
    }

    /// What logs and clients are told.
    private static func judge(_ reason: String) throws {
        try hold((1..<400).contains(reason.utf8.count) && reason.isVisible, "a reason of \(reason.visible)")
    }
}
