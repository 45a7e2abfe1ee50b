// A session of the machine with a milter that a test plays.

import NIOCore
import SlimtaMail

@testable import SlimtaMilter

/// The machine, all that it wrote, and what it last wanted.
struct MilterSession {
    var machine: MilterSessionMachine
    var written = ByteBuffer()
    /// Verdicts in their order.
    var verdicts: [MilterVerdict] = []
    /// The last action that was no verdict.
    var last = MilterSessionMachine.Action.wait
    var isClosed = false

    static let fields = [
        MilterField(name: "From", value: ByteBuffer(string: " a@example.com")),
        MilterField(name: "Subject", value: ByteBuffer(string: " t")),
    ]

    /// A session whose milter has answered the offer. `bits` are those that it sets.
    init(
        bits: UInt32 = 0x400, version: UInt32 = 6, lists: [(UInt32, String)] = [],
        _ configuration: MilterSessionMachine.Configuration = .init(name: "m")
    ) {
        machine = MilterSessionMachine(configuration)
        run()
        negotiate(bits: bits, version: version, lists: lists)
        written.clear()
    }

    /// A session whose milter has said nothing.
    init(silent configuration: MilterSessionMachine.Configuration) {
        machine = MilterSessionMachine(configuration)
    }

    mutating func negotiate(bits: UInt32, version: UInt32 = 6, lists: [(UInt32, String)] = []) {
        say { out in
            out.writeMilterPacket("O") { data in
                data.writeInteger(version)
                data.writeInteger(UInt32(0x1FF))
                data.writeInteger(bits)
                for (stage, names) in lists {
                    data.writeInteger(stage)
                    data.writeMilterText(names.utf8)
                }
            }
        }
    }

    /// Does what is to be done, until the machine waits for the milter, the body or the next question.
    mutating func run() {
        while true {
            let action = machine.next(into: &written)
            switch action {
            case .verdict(let verdict): verdicts.append(verdict)
            case .write: last = action
            case .close:
                isClosed = true
                last = action
            case .wait, .wantsBody:
                last = action
                return
            }
        }
    }

    /// Asks; the verdict, if it is there at once.
    @discardableResult
    mutating func ask(_ event: MilterEvent, _ macros: MilterMacros = [:]) -> MilterVerdict? {
        let count = verdicts.count
        machine.ask(event, macros: macros)
        run()
        return verdicts.count > count ? verdicts[count] : nil
    }

    /// The milter says this; the verdict, if that was one.
    @discardableResult
    mutating func say(_ replies: MilterReply...) -> MilterVerdict? {
        say { out in for reply in replies { out.writeMilterReply(reply) } }
    }

    @discardableResult
    mutating func say(_ write: (inout ByteBuffer) -> Void) -> MilterVerdict? {
        var octets = ByteBuffer()
        write(&octets)
        let count = verdicts.count
        machine.received(octets)
        run()
        return verdicts.count > count ? verdicts[count] : nil
    }

    mutating func body(_ text: String) {
        machine.body(ByteBuffer(string: text))
        run()
    }

    mutating func endOfBody() {
        machine.endOfBody()
        run()
    }

    /// Letters of the packets that were written since the last call; of D with the letter that it is for.
    mutating func letters() -> String {
        var reader = MilterPacketReader()
        reader.append(written)
        written.clear()
        var letters: [String] = []
        while let packet = try? reader.next() {
            let letter = String(Unicode.Scalar(packet.command))
            letters.append(
                letter == "D" ? letter + String(Unicode.Scalar(packet.data.readableBytesView.first ?? 63)) : letter)
        }
        return letters.joined(separator: " ")
    }

    /// Goes on, with `c` to all, until the milter is to answer this step. With one field, and a body.
    mutating func go(to step: MilterStep) {
        let events: [(MilterStep, MilterEvent)] = [
            (.connect, .connect(MilterClient(name: "c.example.net", address: .ip(IPAddress("192.0.2.1")!, port: 25)))),
            (.hello, .hello("c.example.net")),
            (.mail, .mail(path: "<a@example.com>", parameters: [])),
            (.recipient, .recipient(path: "<b@example.net>", parameters: [])),
            (.data, .data),
            (.field, .message([Self.fields[0]])),
        ]
        for (place, event) in events {
            ask(event)
            if place == step { return }
            say(.proceed)
        }
        if step == .endOfFields { return }
        say(.proceed)
        body("x\r\n")
        endOfBody()
        if step == .body { return }
        say(.proceed)
    }

    /// Asks all up to the message, which has this body.
    mutating func submit(_ text: String = "x\r\n") {
        let events: [MilterEvent] = [
            .mail(path: "<a@example.com>", parameters: []), .recipient(path: "<b@example.net>", parameters: []), .data,
            .message(Self.fields),
        ]
        for event in events { ask(event) }
        if last == .wantsBody { body(text) }
        if last == .wantsBody { endOfBody() }
    }
}
