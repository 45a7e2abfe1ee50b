// The command of a pipe relay, with placeholders for what is known of a message. The configuration reads it, the relay and the
// helper that starts commands put values into it. No shell ever sees it: one word here is one argument there.

/// Words of a command line, or lines of an environment, with placeholders such as `{recipient}` in them.
package struct CommandTemplate: Hashable, Sendable {
    /// What can be put in. The raw value is the word in braces.
    package enum Placeholder: String, CaseIterable, Hashable, Sendable {
        /// The reverse-path without brackets; nothing for the null one.
        case sender
        /// The recipient, as it is given to the next hop.
        case recipient
        /// Its local part without quotes, up to the first "+".
        case user
        /// Its domain.
        case domain
        /// What is behind that "+"; nothing where there is none.
        case `extension`
        /// The envelope's name in the queue: a repeated delivery has the same.
        case queueID = "queue_id"

        /// Whether what is put in can be nothing.
        var mayBeEmpty: Bool { self == .sender || self == .extension }
    }

    /// Why a word is none.
    package struct Mistake: Error, Hashable, Sendable {
        /// Which one, from 0.
        package let index: Int
        /// What was found.
        package let found: String
        /// What is allowed.
        package let allowed: String
    }

    /// Why no command can be made for a message: one of its addresses would be taken for an option.
    package struct LooksLikeOption: Error, Hashable, Sendable {
        /// Whose value begins with "-".
        package let placeholder: Placeholder
    }

    private typealias Part = TemplatePart<Placeholder>

    private let parts: [[Part]]
    /// As they are written.
    package let words: [String]

    /// No words: an environment of none.
    package init() { (parts, words) = ([], []) }

    /// Throws for braces that are no placeholder, for NUL, and for an option such as `-f{sender}`, which would swallow the
    /// next word where the sender is null.
    package init(_ words: [String]) throws(Mistake) {
        self.words = words
        var parts: [[Part]] = []
        for (index, word) in words.enumerated() {
            let these = try Self.parts(of: word, index)
            let values = these.compactMap(\.placeholder)
            if case .text(let text) = these.first, text.utf8.first == UInt8(ascii: "-"),
                !text.utf8.contains(UInt8(ascii: "=")),
                !values.isEmpty, values.allSatisfy(\.mayBeEmpty)
            {
                throw Mistake(
                    index: index, found: "\"\(word.visible)\", which would be an option without its value",
                    allowed: "{\(values[0].rawValue)} in a word of its own, or behind \"=\": it may be empty")
            }
            parts.append(these)
        }
        self.parts = parts
    }

    private static func parts(of word: String, _ index: Int) throws(Mistake) -> [Part] {
        guard !word.utf8.contains(0) else {
            throw Mistake(index: index, found: "a NUL", allowed: "any other character")
        }
        do throws(StrayBrace) {
            return try Part.parts(of: word)
        } catch {
            throw Mistake(
                index: index, found: "\"\(error.found.visible.cut(toOctets: 64))\"", allowed: error.allowed)
        }
    }

    /// Whether there is a placeholder in the word at `index`.
    package func isFixed(_ index: Int) -> Bool { parts[index].allSatisfy { $0.placeholder == nil } }

    /// The words with everything in its place. Behind a word "--" nothing is an option.
    package func filled(_ values: CommandValues) throws(LooksLikeOption) -> [String] {
        var areOptionsOver = false
        var filled: [String] = []
        for (word, parts) in zip(words, parts) {
            if word == "--" { areOptionsOver = true }
            var text = ""
            for (position, part) in parts.enumerated() {
                switch part {
                case .text(let fixed): text += fixed
                case .placeholder(let placeholder):
                    let value = values[placeholder]
                    if position == 0, !areOptionsOver, value.utf8.first == UInt8(ascii: "-") {
                        throw LooksLikeOption(placeholder: placeholder)
                    }
                    text += value
                }
            }
            filled.append(text)
        }
        return filled
    }
}

/// What is put into a ``CommandTemplate`` for one message and one of its recipients.
package struct CommandValues: Hashable, Sendable {
    private var texts: [CommandTemplate.Placeholder: String]

    /// What is known of a message.
    package init(sender: Mailbox?, recipient: Mailbox, queueID: QueueID) {
        let local = recipient.unquotedLocalPart
        let plus = local.utf8.firstIndex(of: UInt8(ascii: "+"))
        texts = [
            .sender: sender?.text ?? "", .recipient: recipient.text, .domain: String(recipient.domain),
            .user: plus.map { String(local[..<$0]) } ?? local,
            .extension: plus.map { String(local[local.utf8.index(after: $0)...]) } ?? "",
            .queueID: queueID.description,
        ]
    }

    /// As another process was told: in the order of the placeholders. nil: not as many.
    package init?(_ texts: [String]) {
        guard texts.count == CommandTemplate.Placeholder.allCases.count else { return nil }
        self.texts = Dictionary(uniqueKeysWithValues: zip(CommandTemplate.Placeholder.allCases, texts))
    }

    /// In the order of the placeholders.
    package var all: [String] { CommandTemplate.Placeholder.allCases.map { self[$0] } }

    /// What is put in for a placeholder.
    package subscript(placeholder: CommandTemplate.Placeholder) -> String { texts[placeholder] ?? "" }
}
