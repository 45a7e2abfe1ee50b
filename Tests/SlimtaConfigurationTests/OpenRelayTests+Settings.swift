// No setting that is about logins, senders or how much they send gives somebody the right to send who has said nothing of himself:
// all of them together, on every kind of edge.

import SlimtaMail
import SlimtaRules
import SlimtaSASL
import SlimtaSMTP
import Testing

@testable import SlimtaConfiguration

extension OpenRelayTests {
    /// An edge, and who may send there without a login.
    private struct Row {
        let text: String
        let members: Set<String>
        /// What MAIL of others gets; nil: there is no MAIL, and nobody at all.
        var reply: String?
    }

    private static func row(
        type: String, listen: String, auth: String, tls: String = "none", more: String = "",
        _ members: Set<String> = []
    ) -> Row {
        Row(
            text: """
                [[edge]]
                name = "NAME"
                type = "\(type)"
                listen = [\(listen)]
                tls = "\(tls)"
                auth = "\(auth)"
                \(more)

                """, members: members, reply: auth == "none" ? "550 5.7.1" : "530 5.7.0")
    }

    private static let trusting = #"trusted_networks = ["10.0.0.0/8"]"#
    private static let ten: Set<String> = ["10.1.2.3", "::ffff:10.1.2.3"]

    /// Each kind of edge; those of HTTP with and without what only they have, as far as that is allowed.
    private static let rows: [Row] = {
        var rows: [Row] = []
        var port = 2000
        func next(_ host: String) -> String {
            port += 1
            return "\"\(host):\(port)\""
        }
        for (type, tls) in [("smtp", "starttls"), ("smtp", "immediate"), ("http", "immediate")] {
            for json in type == "http" ? ["", "json = true"] : [""] {
                rows += [
                    row(type: type, listen: next("192.0.2.1"), auth: "required", tls: tls, more: json),
                    row(
                        type: type, listen: next("[::]"), auth: "optional", tls: tls,
                        more: trusting + "\n" + json, ten),
                    row(type: type, listen: next("192.0.2.1"), auth: "none", tls: tls, more: trusting, ten),
                ]
            }
        }
        for type in ["smtp", "http"] {
            for more in type == "http" ? ["", "json = true", "server_names = [\"mail.example.com\"]"] : [""] {
                let proxied = "proxy_protocol = [\"127.0.0.0/8\"]\n\(trusting)\n\(more)"
                rows += [
                    row(type: type, listen: next("127.0.0.1"), auth: "none", more: more, ownClients),
                    row(type: type, listen: "\"unix:/s\(rows.count)\"", auth: "none", more: more, ownClients),
                    row(type: type, listen: next("127.0.0.1"), auth: "none", more: proxied, ten),
                    row(
                        type: type, listen: next("192.0.2.1"), auth: "none", more: trusting + "\n" + more,
                        ten),
                ]
                // Who has to log in in any case is not asked what he calls us.
                guard !more.contains("server_names") else { continue }
                rows.append(
                    row(
                        type: type, listen: next("127.0.0.1"), auth: "required",
                        more: "plaintext_auth = true\n" + more))
            }
        }
        rows.append(
            Row(text: "[[edge]]\nname = \"s\"\ntype = \"sendmail\"\nlisten = [\"unix:/s\"]\n", members: [], reply: nil))
        rows.append(Row(text: "[[edge]]\nname = \"d\"\ntype = \"directory\"\npath = \"/p\"\n", members: [], reply: nil))
        return rows.enumerated().map { number, row in
            Row(text: row.text.replacing("NAME", with: "r\(number)"), members: row.members, reply: row.reply)
        }
    }()

    /// Of each setting what it can say, the most that it can allow among it.
    private static let settings: [[String]] = [
        [
            #"backends = ["file"]"#, #"backends = ["pam"]"#, #"backends = ["dovecot"]"#,
            #"backends = ["oauth", "file"]"#,
        ],
        [
            "", #"mechanisms = ["PLAIN"]"#, #"mechanisms = ["SCRAM-SHA-256-PLUS"]"#,
            #"mechanisms = ["EXTERNAL"]"# + "\n" + #"certificate_login = "common_name""#,
            #"mechanisms = ["EXTERNAL"]"# + "\n" + #"certificate_login = "fingerprint""#,
        ],
        [#"channel_binding = "off""#, #"channel_binding = "require""#],
        [
            "[sender_check]\nmail_from = false",
            "[sender_check]\nfrom = true\nadd_sender = true\nallow_resent = true",
        ],
        [
            "", "[[senders]]\nlogins = \"*\"\nmail_from = \"*\"",
            "[[senders]]\nlogins = \"*\"\nlocal = true\nmail_from = \"*\"",
        ],
        [
            "",
            "[quota]\nnotify = \"a@example.com\"\nsoft = { networks = { per_hour = 2 } }\n"
                + "[[quota.except]]\nlogins = \"*\"\nnetworks = [\"0.0.0.0/0\", \"::/0\"]\n"
                // What is signed, mended and converted is what was let in.
                + "[[dkim]]\ndomains = [\"example.com\"]\ngate = \"off\"\n[signing]\notherwise = \"example.com\"\n[repair]\n"
                + "duplicates = \"first\"\n[queue]\npolicies = [\"date\", \"message_id\", \"received\"]\n"
                + "seven_bit = \"always\"\nqualify = \"example.com\"\nreceived = { hide_client = true }",
        ],
    ]

    /// The first three are keys of [auth]; of two of its back ends there are tables.
    private static func text(_ choice: [String]) -> String {
        "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"/ca\"\n" + rows.map(\.text).joined() + "[auth]\n"
            + choice[..<3].joined(separator: "\n") + "\n"
            + (choice[0].contains("dovecot") ? "[auth.dovecot]\nsocket = \"unix:/d\"\n" : "")
            + (choice[0].contains("oauth")
                ? "[auth.oauth]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/k\"\n" : "")
            + choice[3...].joined(separator: "\n") + "\n"
    }

    @Test(arguments: settings[0], settings[1])
    func noSettingLetsAStrangerSend(backEnds: String, mechanisms: String) throws {
        #expect(Self.rows.count > 30)
        var choices = [[backEnds, mechanisms]]
        for setting in Self.settings[2...] { choices = choices.flatMap { choice in setting.map { choice + [$0] } } }
        for choice in choices {
            let configuration = try Configuration.parse(Self.text(choice), file: "f")
            #expect(configuration.edges.count == Self.rows.count)
            for (row, edge) in zip(Self.rows, configuration.edges) {
                for client in ["203.0.113.5", "10.1.2.3", "127.0.0.1", "", "nonsense"] {
                    let mayRelay = row.members.contains(client)
                    let isTrusted = edge.trust.allows(endpoint(client))
                    #expect(isTrusted == mayRelay, "\(row.text) \(client) \(choice)")
                    guard client == "203.0.113.5", let expected = row.reply else { continue }
                    if edge.type.name == "smtp" {
                        let isEncrypted = edge.access.tls != .cleartext
                        let reply = reply(edge, client, isEncrypted: isEncrypted, senders: configuration.senders)
                        #expect(reply == (mayRelay ? "ask" : expected), "\(row.text) \(client) \(choice)")
                    } else {
                        let authentication: SMTPServerConfiguration.Authentication =
                            switch edge.access.auth {
                            case .required: .required
                            case .optional: .optional
                            case .off: .none
                            }
                        var rules = TransactionRules(authentication: authentication)
                        rules.senders = configuration.senders
                        let refusal = rules.refusal(ofClient: nil, isTrusted: isTrusted)
                        #expect((refusal == nil) == mayRelay, "\(row.text) \(client) \(choice)")
                    }
                }
            }
        }
    }
}
