// Macros: what a milter is told beside the events (reference/content.md section 2.3). Names are those of sendmail, which all
// milters know: `i`, `{auth_authen}`. They go out before an event, those that are wanted at its stage and are known.

internal import NIOCore

/// Values of macros by name.
package struct MilterMacros: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    private var values: [String: String] = [:]

    /// Names with or without their braces.
    package init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements { self[name] = value }
    }

    /// The value of a macro; nil: not known, and not sent. The name is with or without its braces.
    package subscript(name: String) -> String? {
        get { values[MilterMacroLists.plain(name)] }
        set { values[MilterMacroLists.plain(name)] = newValue }
    }

    /// Takes the values of `others`, where both have one.
    package mutating func merge(_ others: MilterMacros) { values.merge(others.values) { _, new in new } }

    var isEmpty: Bool { values.isEmpty }
}

/// Which macros go with which event.
package struct MilterMacroLists: Hashable, Sendable {
    /// Postfix's, which milters are written for. `i` goes out from MAIL on: it is known by then, and milters look for it
    /// there.
    private var lists: [[String]] = [
        ["j", "daemon_name", "daemon_addr", "v", "_"],
        ["tls_version", "cipher", "cipher_bits", "cert_subject", "cert_issuer"],
        ["i", "auth_type", "auth_authen", "auth_author", "mail_addr", "mail_host", "mail_mailer"],
        ["i", "rcpt_addr", "rcpt_host", "rcpt_mailer"],
        ["i"], ["i"], ["i"],
    ]

    /// What goes with an event where the milter names nothing.
    package init() {}

    /// The milter's own list for a stage, names with blanks between them. An empty one changes nothing (purepythonmilter
    /// sends seven of them, and gets Postfix's macros), nor does one for a stage that there is not.
    mutating func replace(_ stage: UInt32, with names: some Sequence<UInt8>) {
        let names = String(decoding: Array(names), as: UTF8.self)
            .split { $0 == " " || $0 == "," || $0 == "\t" }.map { Self.plain(String($0)) }
        if stage < lists.count, !names.isEmpty { lists[Int(stage)] = names }
    }

    /// The names for an event, without braces. Fields have those of the end of the header, the body those of the end.
    package subscript(step: MilterStep) -> [String] {
        switch step {
        case .connect: lists[0]
        case .hello: lists[1]
        case .mail: lists[2]
        case .recipient: lists[3]
        case .data: lists[4]
        case .body, .end: lists[5]
        case .field, .endOfFields: lists[6]
        }
    }

    /// The name without braces.
    static func plain(_ name: String) -> String {
        name.hasPrefix("{") && name.hasSuffix("}") && name.utf8.count > 2 ? String(name.dropFirst().dropLast()) : name
    }

    /// Writes the packet for an event: each name with its value, as many as there is room for.
    func write(_ macros: MilterMacros, for step: MilterStep, into out: inout ByteBuffer) {
        out.writeMilterPacket("D") { data in
            data.writeInteger(UInt8(ascii: step.letter))
            var room = MilterPacket.mostData - 1
            for name in self[step] {
                guard let value = macros[name] else { continue }
                // Names of one letter have no braces.
                let written = name.utf8.count == 1 ? name : "{\(name)}"
                room -= written.utf8.count + value.utf8.count + 2
                if room < 0 { return }
                data.writeMilterText(written.utf8)
                data.writeMilterText(value.utf8)
            }
        }
    }
}
