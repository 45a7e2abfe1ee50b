// /etc/slimta/users: who may submit. FileCredentials reads it, `slimtad passwd` changes it. This file knows its text; who
// opens files is the composition root.

internal import SlimtaMail
package import SlimtaSASL

/// The text of a users file: a line a user, `NAME:HASH[:SENDER,SENDER...[:KEY=VALUE]...]`; empty lines and lines that begin
/// with "#" are passed over and kept. Lines end with LF or CRLF. What a KEY can be is in UsersFile+User.swift. A version that
/// knows none takes them for senders that are none, and refuses the line.
package struct UsersFile: Sendable {
    /// What is wrong with a line.
    package struct LineError: Error, Hashable, Sendable, CustomStringConvertible {
        /// From 1.
        package let line: Int
        /// Whose line it is, as far as it is understood.
        package var name: String?
        /// What is wrong, for the operator: the end of a sentence that begins with the line.
        package let message: String

        /// For log and `slimtad check`, without the file's name.
        package var description: String { "line \(line): \(message)" }
    }

    private struct Line: Sendable {
        /// Without its end.
        var text: String
        /// The user's name: what is in front of the first colon; nil: a comment, an empty line, or no colon.
        var name: String?
    }

    private var lines: [Line] = []
    /// What the file's lines end with: its first line's end.
    private let lineEnd: String
    /// Whether an editor has put a byte order mark in front.
    private let hasMark: Bool
    /// By name, as the file spells it. Of a name that is there twice, or has a line that is not understood, nothing: an older
    /// line may say more than the one that was meant to take its place.
    package private(set) var users: [String: User] = [:]
    /// Lines that are not as they should be. Their users cannot log in; the others can.
    package private(set) var errors: [LineError] = []

    /// Understands as much of `text` as can be; the rest is in ``errors``. The empty file has no users.
    package init(_ text: String = "") {
        // Octets, since Swift takes CR and LF, and a colon and an accent behind it, for one character.
        var octets = Array(text.utf8)[...]
        hasMark = octets.starts(with: "\u{FEFF}".utf8)
        if hasMark { octets = octets.dropFirst(3) }
        var parts = octets.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if parts.last?.isEmpty == true { parts.removeLast() }
        lineEnd = parts.first?.last == UInt8(ascii: "\r") ? "\r\n" : "\n"
        var names: Set<String> = []
        for (index, part) in parts.enumerated() {
            var part = part
            while part.last == UInt8(ascii: "\r") { part.removeLast() }
            read(part, number: index + 1, besides: &names)
        }
    }

    private mutating func read(_ octets: ArraySlice<UInt8>, number: Int, besides names: inout Set<String>) {
        var line = Line(text: String(decoding: octets, as: UTF8.self))
        defer { lines.append(line) }
        guard let first = octets.first, first != UInt8(ascii: "#") else { return }
        let fields = Self.fields(of: octets)
        if fields.count > 1 { line.name = fields[0] }
        let isNew = fields.count < 2 || names.insert(fields[0]).inserted
        do throws(LineError) {
            let user = try Self.parse(fields, number: number)
            guard isNew else {
                throw LineError(
                    line: number, name: fields[0],
                    message: "user \(Self.quoted(fields[0])) is there twice, and cannot log in until one line is gone")
            }
            users[fields[0]] = user
        } catch {
            errors.append(error)
            if let name = error.name { users[name] = nil }
        }
    }

    private static func parse(_ fields: [String], number: Int) throws(LineError) -> User {
        guard fields.count >= 2 else {
            throw LineError(line: number, message: "is not NAME:HASH[:SENDER,SENDER...[:KEY=VALUE]...]")
        }
        let name = fields[0]
        guard isName(name) else {
            throw LineError(line: number, name: name, message: "\(quoted(name)) cannot be a user's name: \(nameRule)")
        }
        guard let hash = PasswordHash(fields[1]) else {
            throw LineError(
                line: number, name: name,
                message: "the hash of \"\(name)\" is not one of crypt(3); set it with: slimtad passwd \(name)")
        }
        var senders: [String]?
        // Nothing at all, before what follows, is how no list is written.
        if fields.count == 3 || fields.count > 3 && !fields[2].isEmpty {
            var list: [String] = []
            for sender in fields[2].utf8.split(separator: UInt8(ascii: ",")) {
                let sender = String(decoding: sender.drop { $0 == UInt8(ascii: " ") }, as: UTF8.self)
                guard isSender(sender) else {
                    throw LineError(
                        line: number, name: name, message: "\(quoted(sender)) is not \(SenderPattern.allowed)")
                }
                list.append(sender)
            }
            guard !list.isEmpty else {
                throw LineError(
                    line: number, name: name,
                    message: "no sender is behind the second colon: leave it out, or write * for all")
            }
            senders = list
        }
        var user = User(hash: hash, senders: senders)
        for field in fields.dropFirst(3) {
            if let problem = user.read(field) { throw LineError(line: number, name: name, message: problem) }
        }
        return user
    }

    private static func quoted(_ text: String) -> String { "\"\(text.visible)\"" }

    /// What ``isName(_:)`` asks for, in words.
    package static let nameRule =
        "1 to 255 octets without colons and without characters that cannot be seen, no blank or # first, no blank last"

    /// Whether `name` can be a user's: no colon, no comment, no blanks around it, and nothing that a terminal acts upon or
    /// that makes it look like another name.
    package static func isName(_ name: String) -> Bool {
        let octets = name.utf8
        let blank = UInt8(ascii: " ")
        return (1...255).contains(octets.count) && octets.first != UInt8(ascii: "#") && octets.first != blank
            && octets.last != blank && !octets.contains(UInt8(ascii: ":")) && name.isVisible
    }

    /// Whether `text` can be one of a user's senders. A comma in it would part it, a colon that is not within brackets too.
    package static func isSender(_ text: String) -> Bool {
        !text.utf8.contains(UInt8(ascii: ",")) && fields(of: Array("::\(text)".utf8)[...]) == ["", "", text]
            && SenderPattern(text) != nil
    }

    /// Names that differ by case only, each group in order: `[auth] fold_case` cannot tell them apart.
    package var alike: [[String]] {
        Dictionary(grouping: users.keys) { $0.lowercased() }.values.filter { $0.count > 1 }.map { $0.sorted() }
            .sorted { $0[0] < $1[0] }
    }

    /// The first line that is not understood and is not `name`'s: until it is mended, the file is not to be written, since
    /// nobody knows what it means.
    package func obstacle(toChanging name: String) -> LineError? { errors.first { $0.name != name } }

    /// Sets a user's password: the hash, the keys for SCRAM, and the senders if they are given. All else of the user, and
    /// the other lines, stay as they are. False if the user is new.
    @discardableResult
    package mutating func set(
        _ name: String, hash: PasswordHash, keys: [SCRAMKeys] = [], senders: [String]?
    ) -> Bool {
        var user = users[name] ?? User(hash: hash)
        user.hash = hash
        user.keys = Dictionary(uniqueKeysWithValues: keys.map { ($0.hash, $0) })
        user.senders = senders ?? user.senders
        return set(name, user)
    }

    /// Sets what the file says of a user; its line stays at its place. False if the user is new.
    @discardableResult
    package mutating func set(_ name: String, _ user: User) -> Bool {
        let settings = user.settings.map { ":" + $0 }.joined()
        let senders = user.senders.map { ":" + $0.joined(separator: ",") } ?? (settings.isEmpty ? "" : ":")
        let place = lines.firstIndex { $0.name == name } ?? lines.count
        let wasThere = delete(name)
        lines.insert(Line(text: "\(name):\(user.hash.text)\(senders)\(settings)", name: name), at: place)
        users[name] = user
        return wasThere
    }

    /// Takes a user out; false if there is none.
    package mutating func delete(_ name: String) -> Bool {
        let count = lines.count
        lines.removeAll { $0.name == name }
        users[name] = nil
        errors.removeAll { $0.name == name }
        return lines.count < count
    }

    /// The text to be written.
    package var text: String { (hasMark ? "\u{FEFF}" : "") + lines.map { $0.text + lineEnd }.joined() }
}
