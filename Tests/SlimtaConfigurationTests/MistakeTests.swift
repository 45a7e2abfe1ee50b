// slimta.conf as it should not be: each mistake with its line, its path, what is allowed and what was meant.

import Testing

@testable import SlimtaConfiguration

@Suite struct MistakeTests {
    /// Appended to a sound edge of seven lines: the first line here is line 8.
    @Test(arguments: [
        // unknown keys
        Case(
            "[limits]\nmesage_size = 5",
            """
            9: limits.mesage_size: unknown key; allowed in limits are command_timeout, commands, connections, \
            connections_per_address, data_timeout, errors, handshake_timeout, least_rate, lenient_paths, message_size, \
            received_hops, recipients, stall_timeout; did you mean "message_size"?
            """),
        Case(
            "[log]\nfile = \"x\"",
            "9: log.file: unknown key; allowed in log are level, target"),
        Case(
            "[lgo]\nlevel = 1\n",
            """
            8: lgo: unknown key; allowed outside tables are auth, daemon, dkim, dns, dnsbl, edge, forward, \
            hostname, limits, log, milter, node, policy_service, queue, quota, relay, repair, route, rule, sender_check, senders, signing, site, spamassassin, spf, tls, tls_policy, tls_report; did you mean "log"?
            """),
        Case(
            "[log]\n\"a b\".c = 1",
            "9: log.\"a b\": unknown key; allowed in log are level, target"),
        Case(
            "[[edge]]\nname = \"h\"\ntype = \"htpp\"\nlisten = [\"127.0.0.1:80\"]\ntls = \"none\"\nauth = \"none\"\npath = \"/\"",
            "10: edge[1].type: found \"htpp\"; allowed is \"smtp\", \"http\", \"sendmail\", \"directory\"; did you mean \"http\"?",
            """
            14: edge[1].path: unknown key; allowed in edge[1] are auth, banner, greet_delay, listen, name, \
            plaintext_auth, proxy_protocol, tls, trusted_networks, type
            """),
        Case(
            "[[edge]]\nname = \"s\"\ntype = \"sendmail\"\nlisten = [\"127.0.0.1:80\"]\ntrusted_users = [\"\"]\ntls = \"none\"",
            """
            11: edge[1].listen: found a TCP address, behind which nobody knows which user asks; allowed is "unix:/path", \
            such as "unix:/run/slimtad/sendmail", or "systemd:NAME"
            """,
            "12: edge[1].trusted_users[0]: found \"\"; allowed is a name of a user",
            "13: edge[1].tls: unknown key; allowed in edge[1] are listen, name, trusted_users, type"),
        Case(
            "[[edge]]\nname = \"h\"\ntype = \"http\"\nlisten = [\"127.0.0.1:80\"]\ntls = \"starttls\"\npath = \"a b\"\nbanner = \"220 x\"",
            "12: edge[1].tls: found \"starttls\"; allowed is \"immediate\", \"none\"",
            """
            13: edge[1].path: found "a b"; allowed is a path such as "/" or "/submit": up to 255 letters, digits and any of \
            "/-_.~", from the root
            """,
            """
            14: edge[1].banner: unknown key; allowed in edge[1] are auth, json, listen, name, path, plaintext_auth, \
            proxy_protocol, server_names, tls, trusted_networks, type
            """),
        Case(
            "[[edge]]\nname = \"h\"\ntype = \"http\"\nlisten = [\"127.0.0.1:80\"]\ntls = \"none\"\nauth = \"none\"\nserver_names = [\"a.test:1\", \"127.0.0.1\", \"b.test\"]",
            "14: edge[1].server_names[0]: found \"a.test:1\"; allowed is a domain name, without a port",
            "14: edge[1].server_names[1]: found \"127.0.0.1\"; allowed is a domain name, without a port"),
        Case(
            "[[edge]]\nname = \"h\"\ntype = \"http\"\nlisten = [\"127.0.0.1:80\"]\ntls = \"none\"\nplaintext_auth = true\nserver_names = [\"b.test\"]",
            """
            14: edge[1].server_names: found where a login or the certificate says whom a client means; allowed is it \
            with tls = "none", and without auth = "required" or with trusted_networks
            """),
        Case(
            "[log]\nlevel.x = 1",
            """
            9: log.level: found a table; allowed is "trace", "debug", "info", "notice", "warning", "error"
            """),

        // wrong types
        Case("[limits]\nerrors = \"7\"", "9: limits.errors: found \"7\"; allowed is a number from 1 to 1000000"),
        Case("[limits]\ncommands = 0", "9: limits.commands: found the number 0; allowed is a number from 1 to 1000000"),
        Case(
            "[limits]\nleast_rate = -1",
            "9: limits.least_rate: found the number -1; allowed is a size such as \"50MiB\", \"10MB\" or a number of octets, from 0 to 1GiB"
        ),
        Case(
            "[limits]\nstall_timeout = \"never\"",
            "9: limits.stall_timeout: found \"never\"; allowed is a duration such as \"30s\", \"5m\", \"4h\", \"5d\", from 1s to 1h"
        ),
        Case(
            "[limits]\ndata_timeout = \"none\"",
            "9: limits.data_timeout: found \"none\"; allowed is a duration such as \"30s\", \"5m\", \"4h\", \"5d\", from 1s to 1d, or \"never\""
        ),
        Case("[limits]\nerrors = 7.5", "9: limits.errors: found the number 7.5; allowed is a number from 1 to 1000000"),
        Case("[queue]\ndeliver = \"yes\"", "9: queue.deliver: found \"yes\"; allowed is true, false"),
        Case("[queue]\nretry = \"1m\"", "9: queue.retry: found \"1m\"; allowed is a list of durations, at least one"),
        Case(
            "[queue]\nretry = []", "9: queue.retry: found an empty list; allowed is a list of durations, at least one"),
        Case(
            "[queue]\nretry = [\n  \"1m\", # first\n  5,\n]",
            """
            11: queue.retry[1]: found the number 5; allowed is a duration such as "30s", "5m", "4h", "5d", from 1s to 30d
            """),
        Case("[[log]]\nlevel = \"info\"", "8: log: found a list of tables; allowed is one table, [log]"),
        Case(
            "plaintext_auth = 1979-05-27 07:32:00",
            "8: edge[0].plaintext_auth: found a date or time; allowed is true, false"),
        Case(
            "[dns]\nservers = [[\"127.0.0.1\"]]",
            """
            9: dns.servers[0]: found a list; allowed is an IP address with or without a port, such as \
            "127.0.0.1:53", "[::1]:53"
            """),
        Case("[route]\ndomains = [\"*\"]", "8: route: found a table; allowed is a table [[route]] for each route"),

        Case(
            "[limits]\nlenient_paths = \"yes\"",
            "9: limits.lenient_paths: found \"yes\"; allowed is true, false"),

        // words
        Case(
            "[log]\nlevel = \"WARN\"",
            """
            9: log.level: found "WARN"; allowed is "trace", "debug", "info", "notice", "warning", "error"
            """),
        Case(
            "[log]\nlevel = \"Debug\"",
            """
            9: log.level: found "Debug"; allowed is "trace", "debug", "info", "notice", "warning", "error"; \
            did you mean "debug"?
            """),
        Case(
            "[auth]\nmechanisms = [\"PLAIN\", \"SCRAM-SHA256\"]",
            """
            9: auth.mechanisms[1]: found "SCRAM-SHA256"; allowed is "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512-PLUS", \
            "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1", "PLAIN", "LOGIN", "OAUTHBEARER", \
            "XOAUTH2", "EXTERNAL", "CRAM-MD5"; did you mean "SCRAM-SHA-256"?
            """),
        Case(
            "[auth]\nbackends = [\"dovecot\"]",
            """
            8: auth.dovecot: missing; required is [auth.dovecot] with socket, where Dovecot's service auth listens, such as \
            "unix:/run/dovecot/auth-client"
            """),
        Case(
            "[auth]\nbackend = \"pam\"\nbackends = [\"file\", \"pam\"]",
            "9: auth.backend: found beside backends; allowed is backends alone: this line is to be removed"),
        Case(
            "[auth.dovecot]\nsocket = \"unix:/run/dovecot/auth-client\"",
            "8: auth.dovecot: found without \"dovecot\" in backends; allowed is it with that"),
        Case(
            "[auth]\nbackends = [\"dovecot\"]\n[auth.dovecot]\nsocket = \"dovecot.example:1\"\nport = 1",
            """
            11: auth.dovecot.socket: found "dovecot.example:1"; allowed is "unix:/path", or a port of this machine such as \
            "127.0.0.1:12345": passwords go there in clear
            """,
            """
            12: auth.dovecot.port: unknown key; allowed in auth.dovecot are socket
            """),
        Case(
            "[auth]\nbackends = [\"dovecot\"]\n[auth.dovecot]\nsocket = \"192.0.2.1:12345\"",
            """
            11: auth.dovecot.socket: found "192.0.2.1:12345"; allowed is "unix:/path", or a port of this machine such as \
            "127.0.0.1:12345": passwords go there in clear
            """),
        Case(
            "[auth]\nmechanisms = [\"PLAIN\", \"PLAIN\"]",
            "9: auth.mechanisms[1]: found \"PLAIN\" a second time; allowed is each once"),
        Case(
            "[queue]\npolicies = [\"date\", \"date\"]",
            "9: queue.policies[1]: found \"date\" a second time; allowed is each once"),
        Case(
            "[relay]\ntype = \"smpt\"",
            """
            9: relay.type: found "smpt"; allowed is "mx", "smtp", "lmtp", "http", "maildir", "pipe", "blackhole"; did you mean \
            "smtp"?
            """),
        Case(
            "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\nminimum = 1.2",
            "11: tls.minimum: found the number 1.2; allowed is \"1.2\", \"1.3\""),

        // texts
        Case(
            "[daemon]\nuser = \"root\"\nstate_directory = \"queue\"",
            "9: daemon.user: found \"root\"; allowed is the name of a user, not root",
            "10: daemon.state_directory: found \"queue\"; allowed is an absolute path"),
        Case(
            "banner = \"hello\\r\\n\"",
            """
            8: edge[0].banner: found "hello\\r\\n"; allowed is "220 ", or a code of 4xx or 5xx to serve nobody, \
            and up to 400 printable ASCII characters, with {hostname} where the host's name is to be
            """),
        Case(
            "banner = \"220 {host}\"",
            """
            8: edge[0].banner: found "220 {host}"; allowed is "220 ", or a code of 4xx or 5xx to serve nobody, \
            and up to 400 printable ASCII characters, with {hostname} where the host's name is to be
            """),
        Case(
            "banner = \"250 {hostname}\"",
            """
            8: edge[0].banner: found "250 {hostname}"; allowed is "220 ", or a code of 4xx or 5xx to serve nobody, \
            and up to 400 printable ASCII characters, with {hostname} where the host's name is to be
            """),
        Case(
            "banner = \"564 {hostname}\"",
            """
            8: edge[0].banner: found "564 {hostname}"; allowed is "220 ", or a code of 4xx or 5xx to serve nobody, \
            and up to 400 printable ASCII characters, with {hostname} where the host's name is to be
            """),
        Case(
            "greet_delay = \"2m\"",
            """
            8: edge[0].greet_delay: found "2m"; allowed is a duration such as "30s", "5m", "4h", "5d", from 0s to 1m
            """),
        Case(
            "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\nclient_ca = \"credential:ca\"",
            "11: tls.client_ca: found \"credential:ca\"; allowed is an absolute path"),
        Case(
            "[tls]\ncertificate = \"credential:../x\"",
            "8: tls.key: missing; required is the path of a PEM file",
            """
            9: tls.certificate: found "credential:../x"; allowed is an absolute path, or "credential:NAME" for a \
            systemd credential
            """),
        Case(
            "[relay]\nsource_addresses = [\"0.0.0.0\"]",
            "9: relay.source_addresses[0]: found \"0.0.0.0\"; allowed is an IP address of this machine, without a port"),

        Case(
            "[relay]\nallow_networks = [\"10.0.0.1/8\", \"localhost\"]\nrefuse_networks = \"10.0.0.0/8\"",
            """
            9: relay.allow_networks[0]: found "10.0.0.1/8"; allowed is a network such as "192.0.2.0/24", \
            "2001:db8::/32", or an address; did you mean "10.0.0.0/8"?
            """,
            """
            9: relay.allow_networks[1]: found "localhost"; allowed is a network such as "192.0.2.0/24", \
            "2001:db8::/32", or an address
            """,
            "10: relay.refuse_networks: found \"10.0.0.0/8\"; allowed is a list of networks"),

        // relays and routes
        Case(
            "[relay]\ntype = \"blackhole\"\nallow_networks = []",
            "10: relay.allow_networks: found with type \"blackhole\"; allowed is it with type \"mx\" only"),
        Case(
            "[relay]\ntype = \"smtp\"",
            """
            8: relay.host: missing; required with type "smtp" is a host such as "mail.example.com:587"
            """),
        Case(
            "[relay]\ntype = \"maildir\"\nport = 25",
            "8: relay.path: missing; required with type \"maildir\" is an absolute path",
            "10: relay.port: found with type \"maildir\"; allowed is it with type \"mx\" only"),
        Case(
            "[relay]\nhost = \"a.example:25\"\nusername = \"u\"",
            "9: relay.host: found with type \"mx\"; allowed is it with type \"smtp\", \"lmtp\" only",
            "10: relay.username: found with type \"mx\"; allowed is it with type \"smtp\", \"lmtp\", \"http\" only"),
        Case(
            "[relay]\ntype = \"lmtp\"",
            """
            8: relay.host: missing; required with type "lmtp" is a host such as "mail.example.com:24", or \
            socket = "unix:/path"
            """),
        Case(
            "[relay]\ntype = \"lmtp\"\nhost = \"mail.example.com:25\"",
            """
            10: relay.host: found port 25, which is SMTP's; allowed is any other, such as 24 (RFC 2033 section 5)
            """),
        Case(
            "[relay]\ntype = \"lmtp\"\nsocket = \"/run/lmtp\"",
            "10: relay.socket: found \"/run/lmtp\"; allowed is a UNIX socket such as \"unix:/run/dovecot/lmtp\""),
        Case(
            "[relay]\ntype = \"smtp\"\nsocket = \"unix:/run/lmtp\"",
            "8: relay.host: missing; required with type \"smtp\" is a host such as \"mail.example.com:587\"",
            "10: relay.socket: found with type \"smtp\"; allowed is it with type \"lmtp\", \"http\" only"),
        Case(
            """
            [relay]
            type = "lmtp"
            socket = "unix:/run/lmtp"
            host = "a.example"
            username = "u"
            password_file = "/p"
            tls = "required"
            """,
            "11: relay.host: found with socket; allowed is it without one",
            "12: relay.username: found with socket; allowed is it without one",
            "13: relay.password_file: found with socket; allowed is it without one",
            "14: relay.tls: found \"required\" with socket; allowed is it with host: a UNIX socket has no TLS"),
        Case(
            "[relay]\nrewrite_sender = [{ sender = \"x\", to = \"<>\" }]",
            """
            9: relay.rewrite_sender[0].sender: found "x"; allowed is an address, "@example.com" for a domain, \
            "@.example.com" for all below it, "*" for all, or "<>" for the null sender
            """),
        Case(
            "[relay]\nrewrite_recipient = [{ recipient = \"<>\", to = \"@a@b\" }, { to = \"a@b.example\", from = 1 }]",
            """
            9: relay.rewrite_recipient[0].recipient: found "<>"; allowed is an address, "@example.com" for a domain, \
            "@.example.com" for all below it, "*" for all
            """,
            """
            9: relay.rewrite_recipient[0].to: found "@a@b"; allowed is an address, or "@example.org" for the same local \
            part there
            """,
            """
            9: relay.rewrite_recipient[1].recipient: missing; required is an address, or "@example.com" for a domain
            """,
            "9: relay.rewrite_recipient[1].from: unknown key; allowed in relay.rewrite_recipient[1] are recipient, to"),
        Case(
            "[relay]\nadd_fields = [\"X-A: {reason}\", \"From: x\", \"X-B\"]",
            """
            9: relay.add_fields[0]: found {reason}, which is not known when a message leaves; allowed is {client}, {ehlo}, \
            {edge}, {login}, {sender}
            """,
            """
            9: relay.add_fields[1]: found the field From, of which a message has its own and no second one; allowed is \
            another one, such as X-From
            """,
            "9: relay.add_fields[2]: found \"X-B\"; allowed is a field such as \"X-Gate: {rule}\""),
        Case(
            "[relay]\nadd_fields = [\"list-unsubscribe: <x>\", \"List-Id: x\"]\n[[dkim]]\ndomains = [\"a.example\"]",
            """
            9: relay.add_fields[0]: found the field list-unsubscribe, of which signatures ([[dkim]]) say that there is no \
            further one; allowed is another one, or this one as add_field of a rule: that comes before signatures
            """),
        // What another type goes to is not inherited.
        Case(
            "[relay]\ntype = \"smtp\"\nhost = \"a.example:25\"\n[[route]]\ndomains = [\"*\"]\ntype = \"lmtp\"",
            """
            11: route[0].host: missing; required with type "lmtp" is a host such as "mail.example.com:24", or \
            socket = "unix:/path"
            """),
        Case(
            "[[route]]\ndomains = [\"*\"]\ntype = \"smtp\"\nhost = \"a.example:25\"\nusername = \"u\"",
            "12: route[0].username: found without password_file; allowed are both or none"),
        Case(
            "[[route]]\ntype = \"smtp\"\nhost = \"a.example\"\ntls = \"none\"\nusername = \"u\"\npassword_file = \"/p\"",
            "8: route[0].domains: missing; required is a list such as [\"example.net\", \"*.example.org\"]",
            """
            10: route[0].host: found "a.example"; allowed is a host with its port, such as "mail.example.com:587", \
            "[2001:db8::1]:25"
            """,
            """
            11: route[0].tls: found a login with tls = "none": the password would be readable; allowed is any \
            other with a login
            """),
        Case(
            "[relay]\ntls = \"none\"\n[[route]]\ndomains = [\"*\"]\ntype = \"smtp\"\nhost = \"a.example:25\"\nusername = \"u\"\npassword_file = \"/p\"",
            """
            14: route[0].username: found a login with tls = "none": the password would be readable; allowed is \
            any other with a login
            """),
        Case(
            "[relay]\ntls = \"sometimes\"\ntls_memory = \"on\"",
            "9: relay.tls: found \"sometimes\"; allowed is \"opportunistic\", \"required\", \"verify\", \"dane\", \"none\"",
            "10: relay.tls_memory: found \"on\"; allowed is \"enforce\", \"report\", \"off\""),
        Case(
            "[[route]]\ndomains = [\"*\"]\ntype = \"maildir\"\npath = \"/p\"\ntls_memory = \"off\"",
            """
            12: route[0].tls_memory: found with type "maildir"; allowed is it with type "mx", "smtp", "lmtp" only
            """),
        Case(
            "[[tls_policy]]\ndomains = [\"a.example\", \"A.example\"]\ntls = \"dane\"\nnames = [\"x.example\"]\n[[tls_policy]]\ndomains = [\"b.example\"]\nnames = [\"192.0.2.1\"]\n[dns]\ndnssec = \"off\"",
            "9: tls_policy[0].domains[1]: found \"A.example\", which tls_policy[0].domains[0] takes; allowed is each once",
            "10: tls_policy[0].tls: found \"dane\" with dnssec = \"off\" in [dns]; allowed is dnssec = \"auto\" or \"required\" with it",
            "11: tls_policy[0].names: found with tls = \"dane\"; allowed is it with tls = \"verify\"",
            "12: tls_policy[1].tls: missing; required is what is demanded, such as \"verify\"",
            "14: tls_policy[1].names[0]: found \"192.0.2.1\"; allowed is a host such as \"mx.example.net\""),
        Case(
            "[relay]\ntype = \"http\"\ntls = \"required\"",
            """
            8: relay.url: missing; required with type "http" is a URL such as "https://mail.example.com/submit"
            """,
            """
            10: relay.tls: found with type "http"; allowed is it with types that speak SMTP; https:// in url says that \
            TLS is spoken
            """),
        Case(
            "[relay]\ntype = \"http\"\nurl = \"http://a.example/\"\ntoken_file = \"/t\"\ntrust_file = \"/ca\"\nusername = \"u\"\npassword_file = \"/p\"",
            "11: relay.token_file: found with username; allowed is one of them",
            """
            11: relay.token_file: found a login with a url without TLS: the password would be readable; allowed with a \
            login is https://, this machine (127.0.0.1, [::1], localhost), or a socket
            """,
            "12: relay.trust_file: found with a url without TLS; allowed is it with https://"),
        Case(
            "[relay]\ntype = \"http\"\nurl = \"https://a.example/\"\nusername = \"u:v\"\npassword_file = \"/p\"\ngreeting_timeout = \"1s\"",
            "11: relay.username: found with a colon; allowed is none with type \"http\"",
            "13: relay.greeting_timeout: found with type \"http\"; allowed is it with types that speak SMTP"),
        Case(
            "[relay]\ntype = \"http\"\nurl = \"https://u:p@a.example/\"\nsocket = \"s\"",
            """
            10: relay.url: found "https://u:p@a.example/"; allowed is a URL such as "https://mail.example.com/submit", \
            without user and fragment
            """,
            "11: relay.socket: found \"s\"; allowed is a UNIX socket such as \"unix:/run/dovecot/lmtp\""),
        Case(
            "[relay]\nurl = \"https://a.example/\"",
            "9: relay.url: found with type \"mx\"; allowed is it with type \"http\" only"),
        Case(
            "[[route]]\ndomains = [\"a.example\", \"*.*\", \"b_c\"]\n[[route]]\ndomains = [\"A.example\"]",
            "9: route[0].domains[1]: found \"*.*\"; allowed is \"example.net\", \"*.example.org\" for all below it, or \"*\"",
            "9: route[0].domains[2]: found \"b_c\"; allowed is \"example.net\", \"*.example.org\" for all below it, or \"*\"",
            "11: route[1].domains[0]: found \"A.example\", which route[0].domains[0] takes; allowed is each once"),

        // edges among each other
        Case(
            "[[edge]]\nname = \"in\"\ntype = \"smtp\"\nlisten = [\"127.0.0.1:2525\", \"0.0.0.0:2525\"]\ntls = \"none\"\nauth = \"none\"",
            "9: edge[1].name: found \"in\", which edge[0] has; allowed is a name of its own",
            """
            11: edge[1].listen[0]: found "127.0.0.1:2525", which is edge[0].listen[0]; allowed is each address once
            """,
            """
            11: edge[1].listen[1]: found "0.0.0.0:2525", which takes in or is part of edge[0].listen[0]; allowed is \
            each address once
            """),
        Case(
            "[[edge]]",
            "8: edge[1].name: missing; required is a name such as \"submission\"",
            "8: edge[1].type: missing; required is \"smtp\", \"http\", \"sendmail\", \"directory\"",
            "8: edge[1].listen: missing; required is a list such as [\"[::]:587\"]",
            """
            8: edge[1].tls: found "starttls" without a certificate; allowed is "none", or a table [tls] with \
            certificate and key
            """),
    ])
    func afterASoundEdge(_ given: Case) {
        #expect(mistakes(edge + given.text) == given.errors)
    }

    /// In the place of the sound edge's tls and auth: line 4 is listen, line 5 tls, line 6 auth.
    @Test(arguments: [
        Case(
            "listen = [\"[::]:25\"]\ntls = \"none\"\nauth = \"none\"",
            """
            6: edge[0].auth: found "none" on an edge that others can reach: without AUTH nobody may send there, it \
            would be an open relay; allowed is "required", or trusted_networks that say who may send without it
            """),
        Case(
            "listen = [\"127.0.0.1:25\", \"systemd:x\"]\ntls = \"starttls\"\nauth = \"optional\"\n[tls]\ncertificate = \"/c\"\nkey = \"/k\"",
            """
            6: edge[0].auth: found "optional" on an edge that others can reach: without AUTH nobody may send there, \
            it would be an open relay; allowed is "required", or trusted_networks that say who may send without it
            """),
        Case(
            "listen = [\"192.0.2.1:25\"]\ntls = \"none\"\nauth = \"none\"\ntrusted_networks = [\"0.0.0.0/0\", \"::/0\", \"128.0.0.0/1\"]",
            """
            7: edge[0].trusted_networks[0]: found "0.0.0.0/0"; that trusts the whole world and makes an open relay; \
            allowed are your own networks
            """,
            """
            7: edge[0].trusted_networks[1]: found "::/0"; that trusts the whole world and makes an open relay; \
            allowed are your own networks
            """,
            """
            7: edge[0].trusted_networks[2]: found "128.0.0.0/1"; that trusts the whole world and makes an open relay; \
            allowed are your own networks
            """),
        Case(
            "listen = [\"127.0.0.1:25\"]\ntls = \"none\"\nauth = \"none\"\ntrusted_networks = [\"10.1.2.3/8\", \"local\"]",
            """
            7: edge[0].trusted_networks[0]: found "10.1.2.3/8"; allowed is a network such as "192.0.2.0/24", \
            "2001:db8::/32", or an address; did you mean "10.0.0.0/8"?
            """,
            """
            7: edge[0].trusted_networks[1]: found "local"; allowed is a network such as "192.0.2.0/24", \
            "2001:db8::/32", or an address
            """),
        Case(
            "listen = [\"127.0.0.1:25\"]\ntls = \"none\"\nauth = \"required\"",
            """
            6: edge[0].auth: found "required" with tls = "none", so that no client could authenticate; allowed is \
            auth with TLS, or with plaintext_auth = true on a loopback address
            """),
        Case(
            "listen = [\"[::]:25\"]\ntls = \"none\"\nauth = \"required\"\nplaintext_auth = true",
            """
            7: edge[0].plaintext_auth: found true on an edge that others can reach; allowed is true only if all of \
            listen is loopback or unix:, and without proxy_protocol
            """),
        Case(
            "listen = [\"127.0.0.1:25\"]\ntls = \"immediate\"\nauth = \"required\"",
            """
            5: edge[0].tls: found "immediate" without a certificate; allowed is "none", or a table [tls] with \
            certificate and key
            """),
        // Behind a proxy they are no clients of this machine.
        Case(
            "listen = [\"127.0.0.1:25\"]\ntls = \"none\"\nauth = \"none\"\nproxy_protocol = [\"127.0.0.1\"]",
            """
            6: edge[0].auth: found "none" on an edge that others can reach behind a proxy: without AUTH nobody may send \
            there, it would be an open relay; allowed is "required", or trusted_networks that say who may send without it
            """),
        Case(
            "listen = [\"127.0.0.1:25\"]\ntls = \"none\"\nauth = \"required\"\nplaintext_auth = true\nproxy_protocol = [\"127.0.0.0/8\"]",
            """
            7: edge[0].plaintext_auth: found true on an edge that others can reach behind a proxy; allowed is true only \
            if all of listen is loopback or unix:, and without proxy_protocol
            """),
        Case(
            "listen = [\"127.0.0.1:25\"]\ntls = \"none\"\nauth = \"required\"\nplaintext_auth = true\nproxy_protocol = [\"0.0.0.0/0\", \"::/3\", \"proxy.example\", \"192.0.2.1/24\"]",
            """
            8: edge[0].proxy_protocol[0]: found "0.0.0.0/0"; then the whole world could say who it is; allowed are the \
            networks of your own proxies
            """,
            """
            8: edge[0].proxy_protocol[1]: found "::/3"; then the whole world could say who it is; allowed are the \
            networks of your own proxies
            """,
            """
            8: edge[0].proxy_protocol[2]: found "proxy.example"; allowed is a network such as "192.0.2.0/24", \
            "2001:db8::/32", or an address
            """,
            """
            8: edge[0].proxy_protocol[3]: found "192.0.2.1/24"; allowed is a network such as "192.0.2.0/24", \
            "2001:db8::/32", or an address; did you mean "192.0.2.0/24"?
            """),
        Case(
            "listen = [\"unix:/run/s\"]\ntls = \"none\"\nauth = \"none\"\ntrusted_networks = [\"192.0.2.0/24\"]\nproxy_protocol = [\"127.0.0.1\"]",
            """
            8: edge[0].proxy_protocol: found on an edge with UNIX sockets alone, where no proxy has an address; allowed is \
            it with a TCP address in listen
            """),
        // What is wrong itself leads to no conclusion.
        Case(
            "listen = [\"[::]:25\", \"x\"]\ntls = \"none\"\nauth = \"nnoe\"",
            """
            4: edge[0].listen[1]: found "x"; allowed is "host:port", "[v6]:port", "unix:/path" or "systemd:NAME"
            """,
            "6: edge[0].auth: found \"nnoe\"; allowed is \"required\", \"optional\", \"none\"; did you mean \"none\"?"),
    ])
    func edgesAlone(_ given: Case) {
        #expect(mistakes("[[edge]]\nname = \"in\"\ntype = \"smtp\"\n" + given.text) == given.errors)
    }

    @Test func noEdgeAtAll() {
        #expect(mistakes("") == ["1: edge: missing; required is at least one table [[edge]]"])
    }

    @Test func theFileIsNamed() {
        let errors = #expect(throws: ConfigurationErrors.self) {
            try Configuration.parse("x = 1\n" + edge + "y = 1", file: "/etc/slimta/slimta.conf")
        }
        let lines = errors?.description.split(separator: "\n").map { $0.prefix { $0 != ";" } }
        #expect(
            lines == ["/etc/slimta/slimta.conf:1: x: unknown key", "/etc/slimta/slimta.conf:9: edge[0].y: unknown key"])
    }

    @Test func tooLong() {
        let comment = "#" + String(repeating: " ", count: 1 << 20)
        #expect(mistakes(edge + comment) == ["1: the file is too long; allowed is up to 1MiB"])
    }
}
