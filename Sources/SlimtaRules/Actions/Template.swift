// Texts with placeholders: of replies and of fields. What strangers wrote goes into them, and comes out as printable ASCII
// on one line.

internal import SlimtaMail

/// A text with placeholders such as `{sender}`.
package struct Template: Hashable, Sendable, CustomStringConvertible {
    /// What can be put in. The raw value is the word in braces.
    package enum Placeholder: String, CaseIterable, Hashable, Sendable {
        /// The client's address, "local" for a UNIX socket.
        case client
        /// Its confirmed name, or "unknown".
        case ptr
        case ehlo
        case edge
        /// How the proxy before us names the connection in its own log, or "unknown".
        case uniqueID = "unique_id"
        /// Who has logged in, or "nobody".
        case login
        /// The reverse-path without brackets, "<>" for the null one.
        case sender
        /// The recipient that is asked about; behind RCPT all that were accepted.
        case recipient
        /// What SPF or the list says that the rule is about.
        case reason
        /// The rule's name.
        case rule

        /// The first stage at which it is known.
        package var firstStage: Stage {
            switch self {
            case .client, .ptr, .edge, .uniqueID, .login, .reason, .rule: .connect
            case .ehlo: .ehlo
            case .sender: .mail
            case .recipient: .rcpt
            }
        }
    }

    private let parts: [TemplatePart<Placeholder>]
    /// As it is written.
    package let description: String

    /// Text of printable ASCII with placeholders in braces.
    package init(_ text: String) throws(RuleError) {
        description = text
        guard text.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else {
            throw RuleError("\"\(text.visible.cut(toOctets: 64))\"", "printable ASCII")
        }
        do throws(StrayBrace) {
            parts = try TemplatePart.parts(of: text)
        } catch {
            throw RuleError("\"\(error.found.prefix { $0 != " " })\"", error.allowed)
        }
    }

    /// Text of ours without placeholders.
    init(fixed text: String) { (parts, description) = ([.text(text)], text) }

    /// What is put into it.
    package var placeholders: Set<Placeholder> {
        Set(parts.compactMap(\.placeholder))
    }

    /// What has to be looked up before it can be filled, beside what the rule itself is about.
    var facts: Set<Fact> { placeholders.contains(.ptr) ? [.ptr] : [] }

    /// The text with everything in its place, and nothing in it but printable ASCII; at most 2000 octets.
    func filled(_ value: (Placeholder) -> String) -> String {
        parts.reduce(into: "") { text, part in
            switch part {
            case .text(let fixed): text += fixed
            case .placeholder(let placeholder): text += value(placeholder).printable
            }
        }.cut(toOctets: 2000)
    }

    /// The same as lines of a reply, which has 512 octets with code and CRLF at most (RFC 5321 section 4.5.3.1.5).
    func lines(_ value: (Placeholder) -> String) -> [String] {
        let text = filled(value)
        return text.utf8.count <= 480 ? [text] : text.wrapped(within: 480, wordsOf: 480)
    }
}

extension String {
    /// Printable ASCII, at most 200 octets: all else is shown as its number.
    fileprivate var printable: String {
        cut(toOctets: 200).unicodeScalars.reduce(into: "") { text, scalar in
            text +=
                (0x20...0x7E).contains(scalar.value)
                ? String(scalar) : "\\u{\(String(hexadecimal: scalar.value, digits: 4))}"
        }.cut(toOctets: 200)
    }

    /// Text of ASCII in lines of at most `limit` octets: a longer word has a line of its own, up to `longest` octets, and is
    /// taken apart beyond that. `used`: octets that stand in the first line already, which is empty if nothing fits behind.
    func wrapped(within limit: Int, wordsOf longest: Int, used: Int = 0) -> [String] {
        var lines = [""]
        var room = limit - used
        for word in split(separator: " ") {
            var rest = word.utf8[...]
            repeat {
                let part = String(decoding: rest.prefix(longest), as: UTF8.self)
                rest = rest.dropFirst(longest)
                let blank = lines[lines.count - 1].isEmpty ? 0 : 1
                if part.utf8.count + blank <= room {
                    lines[lines.count - 1] += (blank == 1 ? " " : "") + part
                    room -= part.utf8.count + blank
                } else {
                    if lines.count > 1 || used > 0 || blank == 1 { lines.append(part) } else { lines[0] = part }
                    room = limit - part.utf8.count
                }
            } while !rest.isEmpty
        }
        return lines
    }
}
