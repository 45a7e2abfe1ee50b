// /etc/slimta/users: who may submit. FileCredentials reads it, `slimtad passwd` changes it. This file knows its text; who
// opens files is the composition root.

internal import SlimtaMail

/// The text of a users file: a line a user, `NAME:HASH[:SENDER,SENDER...]`; empty lines and lines that begin with "#"
/// are passed over and kept.
package struct UsersFile: Sendable {
    package struct User: Hashable, Sendable {
        package let hash: PasswordHash
        /// The addresses that the user may send as: a mailbox, or "@domain". Empty: any.
        package let senders: [String]
    }

    /// What is wrong with a line.
    package struct LineError: Error, Hashable, Sendable, CustomStringConvertible {
        /// From 1.
        package let line: Int
        package let message: String

        package var description: String { "line \(line): \(message)" }
    }

    private var lines: [String]
    package private(set) var users: [String: User] = [:]
    /// Lines that are not as they should be. Their users cannot log in; the others can.
    package private(set) var errors: [LineError] = []

    package init(_ text: String = "") {
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        for (index, line) in lines.enumerated() {
            do throws(LineError) {
                guard let (name, user) = try Self.parse(line, number: index + 1) else { continue }
                guard users.updateValue(user, forKey: name) == nil else {
                    throw LineError(line: index + 1, message: "user \"\(name)\" is there twice; the last line counts")
                }
            } catch {
                errors.append(error)
            }
        }
    }

    private static func parse(_ line: String, number: Int) throws(LineError) -> (String, User)? {
        guard !line.isEmpty, !line.hasPrefix("#") else { return nil }
        let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
        guard parts.count >= 2, isName(parts[0]) else {
            throw LineError(line: number, message: "is not NAME:HASH[:SENDER,SENDER...]")
        }
        guard let hash = PasswordHash(parts[1]) else {
            throw LineError(
                line: number,
                message: "the hash of \"\(parts[0])\" is not one of crypt(3); set it with: slimtad passwd \(parts[0])")
        }
        var senders: [String] = []
        if parts.count == 3 {
            for sender in parts[2].split(separator: ",") {
                let sender = String(sender.drop { $0 == " " })
                guard isSender(sender) else {
                    throw LineError(line: number, message: "\"\(sender)\" is neither an address nor @domain")
                }
                senders.append(sender)
            }
        }
        return (parts[0], User(hash: hash, senders: senders))
    }

    /// Whether `name` can be a user's: no colon, no control characters, no blanks around it, no comment.
    package static func isName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && !name.hasPrefix("#") && !name.hasPrefix(" ") && !name.hasSuffix(" ")
            && name.utf8.allSatisfy { $0 >= 32 && $0 != 127 && $0 != UInt8(ascii: ":") }
    }

    /// Whether `text` is a mailbox or "@domain".
    package static func isSender(_ text: String) -> Bool {
        Mailbox(parsing: text.hasPrefix("@") ? "x" + text : text) != nil
    }

    /// Sets a user's hash, and the senders if they are given; other lines stay as they are.
    package mutating func set(_ name: String, hash: PasswordHash, senders: [String]?) {
        let senders = senders ?? users[name]?.senders ?? []
        let line = "\(name):\(hash.text)" + (senders.isEmpty ? "" : ":" + senders.joined(separator: ","))
        lines.removeAll { $0.hasPrefix(name + ":") }
        lines.append(line)
        users[name] = User(hash: hash, senders: senders)
    }

    /// Takes a user out; false if there is none.
    package mutating func delete(_ name: String) -> Bool {
        let count = lines.count
        lines.removeAll { $0.hasPrefix(name + ":") }
        users[name] = nil
        return lines.count < count
    }

    /// The text to be written.
    package var text: String { lines.map { $0 + "\n" }.joined() }
}
