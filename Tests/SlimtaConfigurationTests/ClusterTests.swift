// [node], and the storage of [queue] in PostgreSQL: what is read, what is a mistake, and that no password is shown.

import Testing

@testable import SlimtaConfiguration

@Suite struct ClusterTests {
    private static let choice = "[queue]\nstorage = \"postgresql\"\n"
    private static let whole = choice + "[[queue.postgresql]]\nconnection = \"host=db1,db2 dbname=q\"\n"
    private static let known = ConnectionWords.allowed.joined(separator: ", ")

    private static func settings(_ text: String) throws -> PostgreSQLSettings {
        let placement = try Configuration.parse(edge + text, file: "f").queue.placement
        guard case .postgresql(let settings) = placement else { throw Unexpected() }
        return settings
    }

    private struct Unexpected: Error {}

    @Test func usual() throws {
        let values = try Configuration.parse(edge, file: "f")
        #expect(values.queue.placement == .local)
        #expect(values.node == NodeSettings() && values.node.roles == [.edge, .relay])
        #expect(values.node.name == nil)
        #expect(try Configuration.parse(edge + "[queue]\nstorage = \"local\"\n", file: "f").queue.placement == .local)
    }

    @Test func inADatabase() throws {
        var settings = try Self.settings(Self.whole)
        #expect(settings.connection == "host=db1,db2 dbname=q" && settings.passwordFile == nil)
        #expect(settings.lease == .seconds(15) && settings.commitTimeout == .seconds(10))
        #expect(settings.synchronous == .required && settings.whenAway == .refuse)
        settings = try Self.settings(
            Self.whole
                + "password_file = \"credential:queue-db\"\nlease = \"1m\"\ncommit_timeout = \"5s\"\nsynchronous = \"optional\"\n"
                + "when_away = \"local\"\n"
        )
        #expect(settings.passwordFile == "credential:queue-db" && settings.lease == .seconds(60))
        #expect(settings.commitTimeout == .seconds(5) && settings.synchronous == .optional)
        #expect(settings.whenAway == .local)
    }

    @Test func node() throws {
        let node = "[node]\nname = \"mx-1.example.com\"\n"
        var values = try Configuration.parse(edge + Self.whole + node, file: "f")
        #expect(values.node.name == "mx-1.example.com" && values.node.roles == [.edge, .relay])
        values = try Configuration.parse(Self.whole + node + "roles = [\"relay\"]\n", file: "f")
        #expect(values.node.roles == [.relay] && values.edges.isEmpty && values.closedEdges.isEmpty)
        #expect(values.node.egress == nil)
        // One file for all: what others open is read, and judged, and not opened.
        values = try Configuration.parse(edge + Self.whole + node + "roles = [\"relay\"]\n", file: "f")
        #expect(values.edges.isEmpty && values.closedEdges.count == 1)
        values = try Configuration.parse(edge + Self.whole + node + "roles = [\"edge\"]\n", file: "f")
        #expect(values.node.roles == [.edge] && values.edges.count == 1 && values.closedEdges.isEmpty)
        values = try Configuration.parse(edge + Self.whole + node + "egress = \"dc-1\"\n", file: "f")
        #expect(values.node.egress == "dc-1")
    }

    /// The first line behind the edge is line 8.
    @Test(arguments: [
        Case(
            choice,
            "8: queue.postgresql: missing; required is a table [[queue.postgresql]] with storage = \"postgresql\""),
        Case(
            "[[queue.postgresql]]\nconnection = \"host=x\"\n",
            "8: queue.postgresql: found without storage = \"postgresql\"; allowed is it with that"),
        Case(
            "[queue]\nstorage = \"postgres\"\n[[queue.postgresql]]\nconnection = \"host=x\"\n",
            "9: queue.storage: found \"postgres\"; allowed is \"local\", \"postgresql\"; did you mean \"postgresql\"?"),
        Case(
            whole + "[[queue.postgresql]]\nconnection = \"host=y\"\n",
            "12: queue.postgresql[1]: found a second database; allowed is one: a queue is in one database"),
        Case(
            whole + "password = \"secret\"\n",
            "12: queue.postgresql[0].password: unknown key; allowed in queue.postgresql[0] are commit_timeout"),
        Case(
            choice + "[[queue.postgresql]]\nlease = \"15s\"\n",
            "10: queue.postgresql[0].connection: missing; required is where"),
        Case(
            whole + "lease = \"1s\"\ncommit_timeout = \"1h\"\nsynchronous = true\npassword_file = \"here\"\n",
            "12: queue.postgresql[0].lease: found \"1s\"; allowed is a duration such as \"30s\", \"5m\", \"4h\", \"5d\", from 5s to 10m",
            "13: queue.postgresql[0].commit_timeout: found \"1h\"",
            "14: queue.postgresql[0].synchronous: found true; allowed is \"required\", \"optional\"",
            "15: queue.postgresql[0].password_file: found \"here\"; allowed is an absolute path"),
        Case(
            "[node]\nname = \"mx1\"\n",
            "8: node: found without storage = \"postgresql\" in [queue]; allowed is it with that"),
        Case(
            "[queue]\nstorage = \"local\"\n[node]\n",
            "10: node: found without storage = \"postgresql\" in [queue]; allowed is it with that"),
        // What is wrong with the database is said there, and nothing is concluded of it.
        Case(choice + "[node]\nname = \"mx1\"\n", "8: queue.postgresql: missing"),
        Case(
            whole + "[node]\nname = \"mx 1\"\nroles = []\negress = \"dc 1\"\nzone = 1\n",
            "13: node.name: found \"mx 1\"; allowed is a name such as \"mx1\": up to 255 letters, digits and any of \".-_\"",
            "14: node.roles: found an empty list; allowed is a list of \"edge\", \"relay\", at least one",
            "15: node.egress: found \"dc 1\"; allowed is a word such as \"pool1\": up to 255 letters, digits and any of",
            "16: node.zone: unknown key; allowed in node are egress, name, roles"),
        Case(
            whole + "[node]\nroles = [\"edge\", \"edge\", \"relays\"]\n",
            "13: node.roles[1]: found \"edge\" a second time; allowed is each once",
            "13: node.roles[2]: found \"relays\"; allowed is \"edge\", \"relay\"; did you mean \"relay\"?"),
        Case(
            whole + "when_away = \"accept\"\n",
            "12: queue.postgresql[0].when_away: found \"accept\"; allowed is \"refuse\", \"local\""),
        Case(
            whole + "when_away = \"local\"\n[node]\nroles = [\"edge\"]\n",
            "12: queue.postgresql[0].when_away: found \"local\" without \"relay\" in roles of [node]; "
                + "allowed is \"refuse\" there: what the local queue took would not be delivered"),
        Case(
            whole + "[node]\nroles = [\"relay\"]\n[[edge]]\nname = \"other\"\n",
            "14: edge[1].type: missing", "14: edge[1].listen: missing",
            "14: edge[1].tls: found \"starttls\" without a certificate"),
    ])
    func wrong(_ one: Case) {
        let found = mistakes(edge + one.text)
        #expect(found.count == one.errors.count, "\(found)")
        for (error, expected) in zip(found, one.errors) { #expect(error.hasPrefix(expected), "\(error)") }
    }

    @Test(arguments: [
        "host=/run/postgresql", "host = 'a b' user=u", "dbname='it\\'s' sslmode = verify-full", "port=1\n  host=a\\ b",
        "host=''",
        "options='-c geqo=off' target_session_attrs=read-write",
    ])
    func wordsOfLibpq(_ text: String) throws { #expect(try ConnectionWords.checked(text) == text) }

    @Test(arguments: [
        ("", ConnectionMistake.malformed), ("  ", .malformed), ("host", .malformed), ("host=a dbname", .malformed),
        ("=a", .malformed), ("host='a", .malformed), ("host='a\\'", .malformed), ("host a=b", .malformed),
        ("postgresql://u:pw@db/q", .malformed), ("host=a password=b", .secret("password")),
        ("password = ''", .secret("password")), ("sslpassword=x", .secret("sslpassword")),
        ("connect_timeout=3", .ours("connect_timeout")), ("application_name=x", .ours("application_name")),
        ("hst=a", .unknown("hst")), ("PASSWORD=x", .unknown("PASSWORD")),
    ])
    func notLibpqs(_ text: String, _ expected: ConnectionMistake) {
        #expect(throws: expected) { try ConnectionWords.checked(text) }
    }

    /// Neither message nor the line below it.
    @Test(arguments: [
        "host=db password=hush", "postgresql://u:hush@db/q", "host=db sslpassword = 'hush'", "password='hush", "hush",
    ])
    func secretsAreNotShown(_ connection: String) throws {
        let text = edge + Self.choice + "[[queue.postgresql]]\nconnection = \"\(connection)\"\n"
        let understood = Configuration.Understood(text, file: "f")
        let shown = understood.mistakes.description(with: text)
        #expect(shown.contains("f:11: queue.postgresql[0].connection: found "), "\(shown)")
        #expect(shown.contains("a secret is never written in this file") && !shown.contains("hush"), "\(shown)")
    }

    @Test func wordWithASlip() {
        let text = Self.choice + "[[queue.postgresql]]\nconnection = \"hots=db\"\n"
        #expect(
            mistakes(edge + text) == [
                "11: queue.postgresql[0].connection: found the word \"hots\"; allowed are \(Self.known); did you mean \"host\"?"
            ])
    }
}
