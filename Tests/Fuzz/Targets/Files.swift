// Files and answers that people and programs write: slimta.conf, the users file, JSON.

import SlimtaMail
import SlimtaNet

@testable import SlimtaConfiguration
@testable import SlimtaEdge

extension FuzzTarget {
    /// slimta.conf as a whole.
    static let toml = FuzzTarget(name: "toml", maximumLength: 3000) { octets in
        let text = String(decoding: octets, as: UTF8.self)
        let understood = Configuration.Understood(text, file: "slimta.conf")
        let lines = max(1, text.utf8.count { $0 == 10 } + (text.utf8.last == 10 ? 0 : 1))
        for mistake in understood.mistakes.errors {
            try hold((1...lines).contains(mistake.line), "line \(mistake.line) of \(lines): \(mistake)")
            try hold(!mistake.found.isEmpty, "a mistake without words")
        }
        try same(understood.mistakes.errors.map(\.line).sorted(), understood.mistakes.errors.map(\.line), "by line")
        let told = understood.mistakes.description(with: text).split(separator: "\n")
        try hold(told.allSatisfy(\.isVisible), "\(told.map(\.visible)) are not visible")
        // A comment and empty lines mean nothing, whatever else is there; but a byte order mark has to be first.
        if !octets.starts(with: "\u{FEFF}".utf8) {
            let second = Configuration.Understood("# comment\n\n" + text, file: "slimta.conf")
            // What is said of no line is said of the first.
            let moved = second.mistakes.errors.map { "\(max(1, $0.line - 2)) \($0.keyPath)" }
            let mistakes = understood.mistakes.errors.map { "\($0.line) \($0.keyPath)" }
            try same(moved.sorted(), mistakes.sorted(), "mistakes behind a comment")
            try same(second.configuration, understood.configuration, "the configuration behind a comment")
        }
        for edge in understood.configuration.edges {
            for place in edge.listen { try same(ListenAddress(place.description), place, "where an edge listens") }
        }
        for service in understood.configuration.policyServices {
            try same(ServiceAddress(service.to.description), service.to, "where a service listens")
        }
        for list in understood.configuration.dnsbls {
            try hold(list.answers.allSatisfy { $0.lowerBound >> 24 == 127 && $0.upperBound >> 24 == 127 }, "answers")
        }
        let warnings = understood.configuration.warnings
        try hold(warnings.allSatisfy { !$0.keyPath.isEmpty && $0.text.isVisible }, "warnings \(warnings)")
        for mistake in understood.mistakes.errors {
            try hold(mistake.description.isVisible, "\(mistake.description.visible) is not visible")
        }
    }

    /// What the control socket says.
    static let json = FuzzTarget(name: "json", maximumLength: 2048) { octets in
        guard let value = try? JSON(parsing: octets) else { return }
        let line = value.line
        try hold(line.unicodeScalars.allSatisfy { $0.isVisible }, "\(line.visible) has something that is not visible")
        try same(try JSON(parsing: line.utf8), value, "a value, and as it is written")
        try same(try JSON(parsing: line.utf8).line, line, "what is written twice")
    }

    /// The users file, and its hashes.
    static let users = FuzzTarget(name: "users", maximumLength: 1500) { octets in
        let text = String(decoding: octets, as: UTF8.self)
        let file = UsersFile(text)
        let again = UsersFile(file.text)
        try same(again.text, file.text, "a file written twice")
        try same(again.users, file.users, "users of a file that was written")
        try same(again.errors, file.errors, "errors of a file that was written")
        for (name, user) in file.users {
            try hold(UsersFile.isName(name) && name.isVisible, "the name \(name.visible)")
            try hold(user.senders?.allSatisfy(UsersFile.isSender) ?? true, "the senders \(user.senders ?? [])")
            try same(PasswordHash(user.hash.text), user.hash, "a hash printed")
            try hold(!user.hash.cost.isEmpty && user.hash.unmatchable().cost == user.hash.cost, "its cost")
        }
        for error in file.errors { try hold(error.message.isVisible, "\(error.message.visible) is not visible") }
        guard let hash = PasswordHash("$6$saltsalt$" + String(repeating: ".", count: 86)) else { return }
        // Who is set is there, nobody else changes; who is deleted is gone.
        let name = file.users.keys.min() ?? "new"
        var changed = file
        let wasThere = changed.set(name, hash: hash, senders: nil)
        try hold(wasThere || file.users[name] == nil, "\(name) was there")
        let written = UsersFile(changed.text)
        try same(written.users, changed.users, "users of a file that was changed")
        try same(written.users[name]?.hash, hash, "the hash that was set")
        try same(written.users[name]?.senders, file.users[name]?.senders, "senders when a hash is set")
        _ = changed.delete(name)
        try same(UsersFile(changed.text).users, file.users.filter { $0.key != name }, "users when one is deleted")
    }
}
