// Asks a real milter over a real socket, for Tests/Interop/test_milter.py: `milter-worker ADDRESS [accept|quarantine|reject]`,
// where ADDRESS is a path or HOST:PORT of IPv4. Each line of standard input is one command, each has a line of output:
//
//     connect | hello NAME | mail PATH [PARAMETER...] | rcpt PATH | data     the verdict
//     message IN OUT     the verdict; the message of IN goes to OUT, as the milter has left it, with a Received of ours
//     reset | reuse | quit     "ok", or why the milter has no part any longer ("not now": no reuse)
//
// Not installed.

import Glibc
import NIOCore
import SlimtaMail
import SlimtaMilter

func complain(_ what: String) -> Never {
    print("milter-worker: \(what): \(String(cString: strerror(errno)))")
    exit(EX_IOERR)
}

/// Connects, and blocks.
func connected(to text: String) -> CInt {
    let parts = text.split(separator: ":")
    let address: SocketAddress? =
        if parts.count == 2, let port = Int(parts[1]) {
            try? SocketAddress(ipAddress: String(parts[0]), port: port)
        } else {
            try? SocketAddress(unixDomainSocketPath: text)
        }
    guard let address else { complain(text) }
    let descriptor = socket(address.protocol.rawValue, CInt(SOCK_STREAM.rawValue), 0)
    let status = address.withSockAddr { connect(descriptor, $0, socklen_t($1)) }
    if status != 0 { complain(text) }
    return descriptor
}

func write(_ octets: ByteBuffer, to descriptor: CInt) {
    octets.withUnsafeReadableBytes { octets in
        var rest = octets
        while !rest.isEmpty {
            let count = Glibc.send(descriptor, rest.baseAddress, rest.count, CInt(MSG_NOSIGNAL))
            guard count > 0 else { return }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
}

func file(_ path: String) -> ByteBuffer {
    guard let stream = fopen(path, "r") else { complain(path) }
    defer { fclose(stream) }
    var content = ByteBuffer()
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&piece, 1, piece.count, stream), count > 0 { content.writeBytes(piece[..<count]) }
    return content
}

func save(_ content: ByteBuffer, _ path: String) {
    guard let stream = fopen(path, "w") else { complain(path) }
    defer { fclose(stream) }
    content.withUnsafeReadableBytes { _ = fwrite($0.baseAddress, 1, $0.count, stream) }
}

/// The machine and its connection.
struct Session {
    let descriptor: CInt
    var machine: MilterSessionMachine
    var isOpen = true

    /// Does what the machine wants until there is a verdict, or nothing to wait for.
    mutating func run(body: ByteBuffer = ByteBuffer()) -> MilterVerdict? {
        var verdict: MilterVerdict?
        var rest = body
        var out = ByteBuffer()
        while true {
            let action = machine.next(into: &out)
            switch action {
            case .verdict(let found): verdict = found
            case .wantsBody:
                if let piece = rest.readSlice(length: min(rest.readableBytes, 50_000)), piece.readableBytes > 0 {
                    machine.body(piece)
                } else {
                    machine.endOfBody()
                }
            case .write, .wait, .close:
                write(out, to: descriptor)
                out.clear()
                if action == .close {
                    Glibc.close(descriptor)
                    isOpen = false
                }
                guard action == .wait else { continue }
                if machine.waitsFor.kind == .nothing { return verdict }
                read()
            }
        }
    }

    private mutating func read() {
        var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        let limit = CInt(machine.waitsFor.limit.components.seconds * 1000)
        guard poll(&wanted, 1, limit) > 0 else {
            machine.ended(.timedOut)
            return
        }
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        let count = recv(descriptor, &piece, piece.count, 0)
        if count > 0 { machine.received(ByteBuffer(bytes: piece[..<count])) } else { machine.ended(.closed) }
    }

    mutating func ask(_ event: MilterEvent, _ macros: MilterMacros = [:], body: ByteBuffer = ByteBuffer())
        -> MilterVerdict
    {
        machine.ask(event, macros: macros)
        return run(body: body) ?? .proceed
    }
}

func text(_ verdict: MilterVerdict) -> String {
    switch verdict {
    case .proceed: "proceed"
    case .accepted: "accepted"
    case .refused(let reply): "refused \(reply)"
    case .discarded: "discarded"
    case .closing(let reply): "closing \(reply)"
    case .finished: "finished"
    }
}

guard CommandLine.arguments.count > 1 else { exit(EX_USAGE) }
let policies: [String: MilterFailurePolicy] = ["accept": .accept, "quarantine": .quarantine, "reject": .reject]
var session = Session(
    descriptor: connected(to: CommandLine.arguments[1]),
    machine: MilterSessionMachine(
        .init(
            name: "worker", onFailure: policies[CommandLine.arguments.last ?? ""] ?? .tempfail,
            commandLimit: .seconds(20), contentLimit: .seconds(60))))
var envelope: (sender: Mailbox?, recipients: [Mailbox]) = (nil, [])

func mailbox(_ path: String) -> Mailbox? { Mailbox(parsing: String(path.dropFirst().dropLast())) }

/// The message through the milter.
@MainActor func filter(_ source: String, _ target: String) -> String {
    let message = Message(head: file(source))
    var mail = MilterMail(head: message.head, sender: envelope.sender, recipients: envelope.recipients)
    let verdict = session.ask(.message(mail.fields), body: mail.shownBody(of: message))
    guard case .finished(let edits) = verdict else { return text(verdict) }
    mail.apply(edits)
    var content = mail.fieldsAboveReceived
    content.writeString("Received: by worker\r\n")
    content.writeImmutableBuffer(mail.applied(to: message).head)
    save(content, target)
    let recipients = mail.recipients.map { "<\($0.mailbox)>" }.joined(separator: " ")
    return "finished <\(mail.sender?.text ?? "")> \(recipients) \(mail.heldBecause.map { "held: \($0)" } ?? "")"
}

while let line = readLine() {
    let words = line.split(separator: " ").map(String.init)
    let answer: String
    switch (words.first ?? "", words.dropFirst().first ?? "") {
    case ("connect", _):
        answer = text(
            session.ask(
                .connect(MilterClient(name: "localhost", address: .ip(IPAddress("127.0.0.1")!, port: 4025))),
                [
                    "j": "mail.example.com", "daemon_name": "mail.example.com", "v": "slimtad",
                    "_": "localhost [127.0.0.1]",
                ]))
    case ("hello", let name): answer = text(session.ask(.hello(name)))
    case ("mail", let path):
        envelope = (mailbox(path), [])
        answer = text(
            session.ask(
                .mail(path: path, parameters: Array(words.dropFirst(2))),
                ["i": "1", "auth_type": "PLAIN", "auth_authen": "alice@example.com", "mail_addr": "alice@example.com"]))
    case ("rcpt", let path):
        let verdict = session.ask(.recipient(path: path, parameters: []))
        if verdict == .proceed || verdict == .accepted, let mailbox = mailbox(path) {
            envelope.recipients.append(mailbox)
        }
        answer = text(verdict)
    case ("data", _): answer = text(session.ask(.data))
    case ("message", let source): answer = filter(source, words.last ?? "")
    case ("reset", _), ("reuse", _), ("quit", _):
        switch words[0] {
        case "reset": session.machine.abort()
        case "reuse":
            guard session.machine.canBeReused else {
                print("not now")
                fflush(nil)
                continue
            }
            session.machine.reuse()
        default: session.machine.quit()
        }
        _ = session.run()
        answer = session.machine.failure?.description ?? "ok"
    default: answer = "?"
    }
    print(answer)
    fflush(nil)
}
