// The words that libpq finds a server by, as `connection` of [[queue.postgresql]] has them: KEYWORD=VALUE, with blanks between.
// Read here so that a slip is a mistake with its line, and no secret stands in the file; libpq itself judges the values.

/// What is wrong with such a text.
enum ConnectionMistake: Error, Equatable {
    /// It is not of that form.
    case malformed
    /// A secret is in it.
    case secret(String)
    /// A word that slimtad says itself.
    case ours(String)
    /// A word that libpq does not know.
    case unknown(String)
}

enum ConnectionWords {
    /// Words of libpq up to version 18 that an operator may say.
    static let allowed = [
        "channel_binding", "dbname", "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts",
        "max_protocol_version", "min_protocol_version", "options", "passfile", "port", "require_auth", "requirepeer",
        "service", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression",
        "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni", "target_session_attrs",
        "tcp_user_timeout", "user",
    ]
    private static let secrets = ["password", "sslpassword", "scram_client_key", "oauth_client_secret"]
    private static let own = [
        "application_name", "client_encoding", "connect_timeout", "fallback_application_name", "replication",
    ]

    /// The text as it may be handed to libpq.
    static func checked(_ text: String) throws(ConnectionMistake) -> String {
        // A URL, which libpq takes too, has the password at a place of its own.
        guard !text.contains("://"), !text.utf8.contains(0), let words = keywords(of: text), !words.isEmpty else {
            throw .malformed
        }
        for word in words {
            if secrets.contains(word) { throw .secret(word) }
            if own.contains(word) { throw .ours(word) }
            if !allowed.contains(word) { throw .unknown(word) }
        }
        return text
    }

    /// As libpq splits it; nil: it would not.
    private static func keywords(of text: String) -> [String]? {
        var rest = text.utf8[...]
        var words: [String] = []
        while true {
            skipBlanks(&rest)
            if rest.isEmpty { return words }
            let word = rest.prefix { $0 != UInt8(ascii: "=") && !isBlank($0) }
            rest = rest[word.endIndex...]
            skipBlanks(&rest)
            guard !word.isEmpty, rest.popFirst() == UInt8(ascii: "=") else { return nil }
            skipBlanks(&rest)
            guard skipValue(&rest) else { return nil }
            words.append(String(decoding: word, as: UTF8.self))
        }
    }

    /// A value in quotes, or up to a blank; a backslash takes the meaning from what is behind it. False: a quote has no end.
    private static func skipValue(_ rest: inout Substring.UTF8View) -> Bool {
        let quote = UInt8(ascii: "'")
        let isQuoted = rest.first == quote
        if isQuoted { rest.removeFirst() }
        while let octet = rest.first, isQuoted || !isBlank(octet) {
            rest.removeFirst()
            if isQuoted, octet == quote { return true }
            if octet == UInt8(ascii: "\\") { _ = rest.popFirst() }
        }
        return !isQuoted
    }

    private static func skipBlanks(_ rest: inout Substring.UTF8View) { rest = rest.drop(while: isBlank) }

    private static func isBlank(_ octet: UInt8) -> Bool { octet == 0x20 || (0x09...0x0D).contains(octet) }
}
