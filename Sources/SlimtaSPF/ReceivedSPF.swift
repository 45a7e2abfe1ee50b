// The field that tells later readers what SPF said (RFC 7208 section 9.1). Called by the driver of SlimtaEdge/Lookups; put
// above our Received where slimta.conf asks for it.

import SlimtaMail

extension SPFOutcome {
    /// The field Received-SPF, whole, with CRLF, of a check of `subject`. ASCII, unless the sender's local part is not:
    /// such a message needs SMTPUTF8 anyway (RFC 6531 section 3.3).
    package func receivedSPF(of subject: SPFSubject) -> String {
        let sender = subject.sender?.forNextHop.text ?? ""
        let pairs: [(key: String, value: String?)] = [
            ("receiver", subject.receiver), ("client-ip", subject.client.description), ("envelope-from", sender),
            ("helo", subject.helo.asClientName), ("identity", identity.rawValue), ("mechanism", mechanism ?? "default"),
            ("problem", problem),
        ]
        let list = pairs.compactMap { key, value in value.map { key + "=" + Self.value($0) } }
        return "Received-SPF: \(result.rawValue) (\(comment(subject)))\r\n "
            + list.joined(separator: ";\r\n ") + "\r\n"
    }

    /// What people read. Names are one harmless word each, so that nothing ends the comment or is decoded in it.
    private func comment(_ subject: SPFSubject) -> String {
        let receiver = subject.receiver.asClientName
        let domain = (subject.sender.map { String($0.domain).foldedAsDomain() } ?? subject.helo).asClientName
        return switch result {
        case .none: "\(receiver): domain \(domain) does not designate permitted senders"
        case .neutral: "\(receiver): \(subject.client) is neither permitted nor denied by domain \(domain)"
        case .pass: "\(receiver): domain \(domain) designates \(subject.client) as permitted sender"
        case .fail: "\(receiver): domain \(domain) does not designate \(subject.client) as permitted sender"
        case .softfail:
            "\(receiver): transitioning domain \(domain) does not designate \(subject.client) as permitted sender"
        case .temperror: "\(receiver): DNS did not say who may send for domain \(domain)"
        case .permerror: "\(receiver): what domain \(domain) has published cannot be understood"
        }
    }

    /// A dot-atom as it is, anything else as a quoted-string (RFC 5322 sections 3.2.3 and 3.2.4). Controls are "?".
    private static func value(_ text: String) -> String {
        let octets = Array(text.utf8)
        let isAtom = octets.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty && part.allSatisfy { $0.isASCIILetterOrDigit || "!#$%&'*+-/=?^_`{|}~".utf8.contains($0) }
        }
        if isAtom { return text }
        var quoted = [UInt8(ascii: "\"")]
        for octet in octets {
            if octet == UInt8(ascii: "\"") || octet == UInt8(ascii: "\\") { quoted.append(UInt8(ascii: "\\")) }
            quoted.append(octet.isASCIIControl ? UInt8(ascii: "?") : octet)
        }
        return String(decoding: quoted + [UInt8(ascii: "\"")], as: UTF8.self)
    }
}
