// [node], and `storage` with [[queue.postgresql]] of [queue]: where the queue is, and who this machine is there. Called by
// `Configuration.parse`.

import SlimtaMail
import TOMLKit

extension QueuePlacement {
    /// Reads `storage` and `[[queue.postgresql]]` of `[queue]`.
    init(_ queue: Section) {
        self = .local
        let word = queue["storage"]?.choice(of: Word.self) ?? .local
        let tables = queue.sections("postgresql")
        let settings = tables.enumerated().map { (index, table) -> PostgreSQLSettings? in
            if index == 1 {
                queue.mistakes.report(
                    table.path, "found a second database", "allowed is one: a queue is in one database")
            }
            return PostgreSQLSettings(table)
        }
        guard queue.isSound("storage") else { return }
        switch word {
        case .local:
            if queue.has("postgresql") {
                queue.report("postgresql", "found without storage = \"postgresql\"", "allowed is it with that")
            }
        case .postgresql:
            if let first = settings.first {
                if let first { self = .postgresql(first) }
            } else if queue.isSound("postgresql"),
                queue.mistakes.document.isTellingAbsence(ofTable: "queue.postgresql")
            {
                queue.report(
                    "postgresql", "missing",
                    "required is a table [[queue.postgresql]] with storage = \"postgresql\": where the database is")
            }
        }
    }
}

extension PostgreSQLSettings {
    /// nil if it does not say where the database is; that was reported.
    fileprivate init?(_ table: Section) {
        let example = "host=db1,db2 dbname=slimtad user=slimtad sslmode=verify-full"
        let connection = table.required("connection", "where the database is, such as \"\(example)\"")?
            .connection(example)
        passwordFile = table["password_file"]?.fileReference()
        lease = table["lease"]?.duration(.seconds(5) ... .seconds(600)) ?? lease
        commitTimeout = table["commit_timeout"]?.duration(.seconds(1) ... .seconds(300)) ?? commitTimeout
        synchronous = table["synchronous"]?.choice() ?? synchronous
        whenAway = table["when_away"]?.choice() ?? whenAway
        table.refuseUnknownKeys()
        guard let connection else { return nil }
        self.connection = connection
    }
}

extension NodeSettings {
    /// - Parameter isShared: whether the queue is one that several nodes may have.
    mutating func read(_ table: Section, isShared: Bool) {
        name = table["name"]?.nodeWord("a name such as \"mx1\"")
        egress = table["egress"]?.nodeWord("a word such as \"pool1\"")
        let roles = table["roles"]?.distinctList(of: Setting.words(of: Role.self), mayBeEmpty: false) {
            $0.choice(of: Role.self)
        }
        if let roles, !roles.isEmpty { self.roles = Set(roles) }
        table.refuseUnknownKeys()
        if table.exists, !isShared, table.mistakes.isSound("queue.storage"),
            table.mistakes.document.isTellingAbsence(of: "storage", in: "queue")
        {
            table.mistakes.report(
                table.path, "found without storage = \"postgresql\" in [queue]", "allowed is it with that")
        }
    }
}

extension Setting {
    /// libpq's words without a secret. What was found is not shown, nor the line, where a secret may be in it.
    fileprivate func connection(_ example: String) -> String? {
        guard let text = value.string else { return refuse("allowed are libpq's words, such as \"\(example)\"") }
        let secretive = "a secret is never written in this file"
        do throws(ConnectionMistake) { return try ConnectionWords.checked(text) } catch {
            switch error {
            case .malformed:
                mistakes.report(
                    path, "found what are not libpq's words",
                    "allowed are words such as \"\(example)\", without a password: \(secretive)", hidesLine: true)
            case .secret("password"):
                mistakes.report(
                    path, "found a password", "allowed is it in a file that password_file names: \(secretive)",
                    hidesLine: true)
            case .secret(let word):
                mistakes.report(
                    path, "found \(word)", "allowed are words without secrets: \(secretive)", hidesLine: true)
            case .ours(let word):
                mistakes.report(path, "found the word \(word)", "allowed are others: slimtad says that itself")
            case .unknown(let word):
                mistakes.report(
                    path, "found the word \(KeyPath.quoted(word))",
                    "allowed are \(ConnectionWords.allowed.joined(separator: ", "))",
                    didYouMean: Spelling.nearest(to: word, among: ConnectionWords.allowed))
            }
            return nil
        }
    }

    /// A word that nodes know each other by.
    fileprivate func nodeWord(_ what: String) -> String? {
        text("\(what): up to 255 letters, digits and any of \".-_\"") { text in
            (1...255).contains(text.utf8.count) && text.utf8.allSatisfy(Self.isNameOctet) ? text : nil
        }
    }
}
