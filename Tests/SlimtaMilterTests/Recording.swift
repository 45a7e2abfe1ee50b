// Postfix's sessions with real milters, as ../shared/vectors/milter has them, and our machine driven through the same SMTP
// sessions with the milter's recorded packets.

import Foundation
import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaMilter

/// One file.
struct Recording: Decodable {
    struct Turn: Decodable {
        let helo: String?
        let mail: String?
        let options: [String]?
        let to: [String]?
        let data64: String?
        let replies: [Said]?
    }

    /// A verb, a code, a text.
    struct Said: Decodable {
        let verb: String
        let code: Int
        let text: String

        init(from decoder: any Decoder) throws {
            var list = try decoder.unkeyedContainer()
            verb = try list.decode(String.self)
            code = try list.decode(Int.self)
            text = try list.decode(String.self)
        }
    }

    struct Packet: Decodable {
        let from: String
        let command: String?
        let data: String?
        let length: Int?
        let closed: Bool?
    }

    struct Delivered: Decodable {
        let mail: String
        let rcpt: [String]
        let data64: String
    }

    let smtp: [Turn]
    let packets: [Packet]?
    let packetsFirst: [Packet]?
    let packetsSecond: [Packet]?
    let delivered: [Delivered]
    let held: Int?

    static let names: [String] =
        ((try? FileManager.default.contentsOfDirectory(
            atPath: SharedFiles.vectors.appending(path: "milter").path)) ?? [])
        .filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }.sorted()

    static func named(_ name: String) throws -> Recording {
        try SharedFiles.vector(Recording.self, "milter/\(name).json")
    }
}

extension Recording.Packet {
    /// Its data; nil: only their length was recorded.
    var octets: [UInt8]? {
        data.map { text in
            let digits = Array(text.utf8)
            return stride(from: 0, to: digits.count, by: 2).map {
                (digits[$0].hexadecimalValue ?? 0) << 4 | (digits[$0 + 1].hexadecimalValue ?? 0)
            }
        }
    }

    var isMilters: Bool { from == "milter" && command != nil }
    var isOurs: Bool { from == "mta" && command != nil }

    /// On the wire. Long ones, of which the recordings have the length alone, are pieces of one text.
    func wire(at offset: Int = 0) -> ByteBuffer {
        var wire = ByteBuffer()
        wire.writeMilterPacket(command!.unicodeScalars.first!) { data in
            if let octets {
                data.writeBytes(octets)
            } else {
                let line = Array("a line of the new body\r\n".utf8)
                data.writeBytes((offset..<offset + (length ?? 0)).map { line[$0 % line.count] })
            }
        }
        return wire
    }

    /// For comparison: see ``Comparable``.
    var comparable: ComparablePacket {
        ComparablePacket(command!.unicodeScalars.first!, octets ?? [], length: length ?? octets?.count ?? 0)
    }
}

/// A packet of ours, without what Postfix and we may do in different ways.
struct ComparablePacket: Equatable, CustomStringConvertible {
    /// Macros of Postfix's own, and `i`, which we send earlier.
    private static let others = ["v", "{mail_host}", "{mail_mailer}", "{rcpt_host}", "{rcpt_mailer}"]

    let command: Unicode.Scalar
    /// Texts, or as many octets as there are of a body.
    let description: String
    /// The name of the field, in lower case.
    let field: String?

    init(_ command: Unicode.Scalar, _ octets: [UInt8], length: Int) {
        self.command = command
        let texts = octets.split(separator: 0, omittingEmptySubsequences: false).dropLast()
            .map { ChunkVerifier.printable($0) }
        var field: String?
        switch command {
        case "D":
            var values: [String] = []
            let letter = Unicode.Scalar(octets.first ?? 0)
            let pairs = [String(texts.first?.dropFirst() ?? "")] + texts.dropFirst()
            for index in stride(from: 0, to: pairs.count - 1, by: 2) where !Self.others.contains(pairs[index]) {
                if pairs[index] == "i" {
                    if letter != "M" && letter != "R" { values.append("i") }
                } else {
                    values.append("\(pairs[index])=\(pairs[index + 1])")
                }
            }
            description = "D \(letter) \(values)"
        case "B": description = length > 2000 ? "B \(length)" : "B \(ChunkVerifier.printable(octets))"
        case "L":
            field = texts.first?.lowercased()
            description = "L \(texts)"
        default: description = "\(command) \(ChunkVerifier.printable(octets))"
        }
        self.field = field
    }

    /// The packets in order, each run of A once, without those at the end and without Q (Postfix closes some sessions without
    /// it), and without fields that Postfix added.
    static func reduced(_ packets: [ComparablePacket], without fields: Set<String>) -> [String] {
        var kept: [ComparablePacket] = []
        for packet in packets {
            if packet.command == "A", kept.last?.command == "A" { continue }
            if let field = packet.field, fields.contains(field) {
                kept.removeLast()
                continue
            }
            kept.append(packet)
        }
        while let last = kept.last, last.command == "Q" || last.command == "A" { kept.removeLast() }
        return kept.map(\.description)
    }

    /// All packets of a stream.
    static func all(of octets: ByteBuffer) throws -> [ComparablePacket] {
        var reader = MilterPacketReader()
        reader.append(octets)
        var packets: [ComparablePacket] = []
        while let packet = try reader.next() {
            let data = Array(packet.data.readableBytesView)
            packets.append(ComparablePacket(Unicode.Scalar(packet.command), data, length: data.count))
        }
        #expect(!reader.hasUnread)
        return packets
    }
}

/// Our machine in the place of Postfix, with the milter of a recording.
struct RecordedSession {
    private(set) var machine = MilterSessionMachine(.init(name: "recorded"))
    private(set) var written = ByteBuffer()
    /// What was said to the client: verb, code, text.
    private(set) var replies: [(verb: String, code: Int, text: String)] = []
    /// The edits of each message that went on; nil for one that was discarded.
    private(set) var edits: [MilterEdits?] = []
    private var answers: ArraySlice<Recording.Packet>
    private let cutsReplies: Bool
    private var bodyOffset = 0
    private var port: UInt16 = 0
    private var connectMacros: MilterMacros = [:]

    /// `unseen`: fields that Postfix has added and shown to the milter. We do not, so there is no answer to them.
    init(_ packets: [Recording.Packet], unseen: Set<String>, cutsReplies: Bool = false) {
        var answers: [Recording.Packet] = []
        for (index, packet) in packets.enumerated() where packet.isMilters {
            let asked = packets[..<index].last
            if let asked, asked.isOurs, let field = asked.comparable.field, unseen.contains(field) { continue }
            answers.append(packet)
        }
        self.answers = answers[...]
        self.cutsReplies = cutsReplies
        for packet in packets where packet.isOurs {
            guard let octets = packet.octets else { continue }
            if packet.command == "C", let end = octets.firstIndex(of: 0) {
                port = UInt16(octets[end + 2]) << 8 | UInt16(octets[end + 3])
            }
            if packet.command == "D", octets.first == UInt8(ascii: "C") {
                let texts = octets.dropFirst().split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
                for index in stride(from: 0, to: texts.count - 1, by: 2) {
                    connectMacros[texts[index]] = texts[index + 1]
                }
            }
        }
    }

    /// Runs the machine until nothing more is to be done, with the milter's packets wherever it waits for one.
    mutating func run(body: ByteBuffer = ByteBuffer()) -> MilterVerdict? {
        var verdict: MilterVerdict?
        var rest = body
        while true {
            switch machine.next(into: &written) {
            case .verdict(let found):
                #expect(verdict == nil, "two verdicts")
                verdict = found
            case .wantsBody:
                // Pieces of a size that no packet has.
                if let piece = rest.readSlice(length: min(rest.readableBytes, 40_000)), piece.readableBytes > 0 {
                    machine.body(piece)
                } else {
                    machine.endOfBody()
                }
            case .write: continue
            case .close: return verdict
            case .wait:
                guard machine.waitsFor.kind != .nothing else { return verdict }
                guard let packet = answers.popFirst() else {
                    machine.ended(.timedOut)
                    continue
                }
                let wire = packet.wire(at: bodyOffset)
                if packet.octets == nil { bodyOffset += packet.length ?? 0 }
                guard cutsReplies else {
                    machine.received(wire)
                    continue
                }
                // Octet by octet: until the last nothing is to be done.
                for octet in wire.readableBytesView.dropLast() {
                    machine.received(ByteBuffer(integer: octet))
                    #expect(machine.next(into: &written) == .wait)
                }
                machine.received(ByteBuffer(integer: wire.readableBytesView.last!))
            }
        }
    }

    private mutating func ask(_ event: MilterEvent, _ macros: MilterMacros = [:], body: ByteBuffer = ByteBuffer())
        -> MilterVerdict
    {
        machine.ask(event, macros: macros)
        guard let verdict = run(body: body) else {
            Issue.record("no verdict on \(event.stage)")
            return .proceed
        }
        return verdict
    }

    /// Connects, says EHLO, begins TLS where the recording has it, says it again.
    mutating func greet(_ name: String, startsTLS: Bool) {
        _ = ask(.connect(MilterClient(name: nil, address: .ip(IPAddress("127.0.0.1")!, port: port))), connectMacros)
        _ = ask(.hello(name))
        guard startsTLS else { return }
        _ = ask(
            .hello(name),
            ["{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_256_GCM_SHA384", "{cipher_bits}": "256"])
    }

    /// One turn of the recording.
    mutating func take(_ turn: Recording.Turn, mail: MilterMail?, body: ByteBuffer, authenticates: Bool) {
        guard let sender = turn.mail else { return }
        var macros: MilterMacros = ["i": "ID", "{mail_addr}": sender]
        if authenticates {
            macros["{auth_type}"] = "PLAIN"
            macros["{auth_authen}"] = "alice@example.com"
        }
        let verbs =
            turn.replies?.map(\.verb) ?? ["MAIL"] + (turn.to ?? []).map { "RCPT \($0)" } + ["end of data"]
        for verb in verbs {
            switch verb {
            case "MAIL":
                let verdict = ask(.mail(path: "<\(sender)>", parameters: turn.options ?? []), macros)
                say(verb, verdict)
            case "end of data":
                var verdict = ask(.data)
                if verdict == .proceed || verdict == .accepted {
                    verdict = ask(.message(mail?.fields ?? []), body: body)
                }
                say(verb, verdict)
                switch verdict {
                case .finished(let edits): self.edits.append(edits)
                default: self.edits.append(nil)
                }
            case "RSET":
                machine.abort()
                replies.append((verb, 250, "2.0.0 Ok"))
            default:
                let recipient = verb.dropFirst("RCPT ".count)
                let verdict = ask(
                    .recipient(path: "<\(recipient)>", parameters: []), ["{rcpt_addr}": String(recipient)])
                say(verb, verdict)
            }
        }
    }

    mutating func quit() {
        machine.quit()
        #expect(run() == nil)
    }

    private mutating func say(_ verb: String, _ verdict: MilterVerdict) {
        switch verdict {
        case .proceed, .accepted, .finished, .discarded: replies.append((verb, 250, ""))
        case .refused(let reply), .closing(let reply):
            let text = reply.lines.map { "\(reply.effectiveStatus) \($0)" }.joined(separator: "\n")
            replies.append((verb, Int(reply.code), text))
        }
    }
}
