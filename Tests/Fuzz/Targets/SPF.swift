// Records and macros as name servers of strangers give them, with senders as clients do.

import SlimtaMail

@testable import SlimtaSPF

extension FuzzTarget {
    /// A record is a policy that can be walked, or it is refused: a check comes to its end within what RFC 7208 allows,
    /// and says nothing that would not be one line of ASCII. Lines: the local part, the name of EHLO, then what answers
    /// say, in turn: "a" and addresses, "n" and names, "t" and a text, "x" no such name, "f" nobody knows.
    static let spfRecord = FuzzTarget(name: "spf-record", maximumLength: 1000) { octets in
        let lines = octets.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map(Array.init)
        let text = lines.map { String(decoding: $0, as: UTF8.self) }
        let answers = zip(lines, text).dropFirst(2).map { answer($0, $1) }
        for client in ["192.0.2.3", "2001:db8::cb01"] {
            guard let address = IPAddress(client) else { continue }
            let subject = SPFSubject(
                client: address, helo: text.dropFirst().first ?? "",
                // A path has at most 254 octets.
                sender: Mailbox(localPart: text[0].cut(toOctets: 242), domain: "example.com"),
                receiver: "mx.example.net", time: 7)
            var check = SPFCheck(of: subject, wantsExplanation: true)
            var asked = 0
            while case .lookup(let lookup) = check.step {
                try hold(SPFName.queried(lookup.name) == lookup.name, "\(lookup.name) is no name")
                let late = check.timedOut()
                try hold(late.result == .temperror || late.result == .fail, "\(late) after the time")
                check.answered(answers.isEmpty ? .noSuchName : answers[asked % answers.count])
                asked += 1
                // 11 records, 10 terms with 11 lookups each, the client's names, an explanation.
                try hold(asked <= 11 + 110 + 11 + 1, "\(asked) lookups")
            }
            guard case .done(let outcome) = check.step else { continue }
            for said in [outcome.reason, outcome.mechanism ?? "", outcome.explanation ?? "", outcome.problem ?? ""] {
                try hold(said.utf8.allSatisfy { (32...126).contains($0) }, "\(said) is not printable")
            }
            let field = outcome.receivedSPF(of: subject)
            let fieldLines = field.split(separator: "\r\n", omittingEmptySubsequences: false)
            try hold(fieldLines.last == "" && fieldLines.dropFirst().dropLast().allSatisfy { $0.hasPrefix(" ") }, field)
            try hold(fieldLines.allSatisfy { $0.utf8.count <= 998 && $0.hasNoASCIIControl }, field)
        }
        if let record = try? SPFRecord(parsing: SPFRecord.version + [UInt8(ascii: " ")] + octets) {
            let written = record.directives.map(\.text).joined(separator: " ")
            if record.directives.allSatisfy({ $0.text.utf8.count < 255 }) {
                let again = try? SPFRecord(parsing: Array("v=spf1 \(written)".utf8))
                try same(again?.directives, record.directives, "mechanisms written and read again")
            }
        }
    }

    private static func answer(_ line: [UInt8], _ text: String) -> SPFAnswer {
        let rest = text.dropFirst()
        return switch line.first {
        case UInt8(ascii: "a"): .addresses(rest.split(separator: " ").compactMap { IPAddress($0) })
        case UInt8(ascii: "n"): .names(rest.split(separator: " ").map(String.init))
        case UInt8(ascii: "x"): .noSuchName
        case UInt8(ascii: "f"): .failed(String(rest))
        default: .texts([Array(line.dropFirst())])
        }
    }

    /// A macro-string is well-formed in explanations if it is in domains; what it comes to is a name, or none.
    static let spfMacro = FuzzTarget(name: "spf-macro", maximumLength: 300) { octets in
        guard let address = IPAddress("192.0.2.3"),
            let text = SPFMacroString(octets, in: .explanation)
        else { return try hold(SPFMacroString(octets, in: .domain) == nil, "\(octets) is well-formed in domains only") }
        let subject = SPFSubject(
            client: address, helo: "h", sender: Mailbox(localPart: "a.b-c", domain: "example.com"), receiver: "mx",
            time: 7)
        let values = SPFMacroValues(subject: subject, domain: Array("d.example".utf8), validatedName: Array("p".utf8))
        let whole = text.text(values, limit: .max)
        if let name = text.name(values) {
            try same(SPFName.queried(name), name, "a name asked for twice")
            try same(SPFName.queried(whole), name, "a name of all of it, and of its end")
        } else {
            try same(SPFName.queried(whole), nil, "a name of all of it, and of its end")
        }
        try hold(whole.starts(with: text.text(values, limit: 20)), "a beginning")
    }
}
