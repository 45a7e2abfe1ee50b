// Lookups of sessions, asked of a real name server with real list zones: what is found, when it counts, and that nothing is
// left when a session ends.

import Foundation
import Logging
import NIOCore
import NIOPosix
import SlimtaDNS
import SlimtaMail
import SlimtaRules
import TestKit
import Testing

@testable import SlimtaEdge

@Suite struct LookupsTests {
    private static let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
    /// One for all that only ask it.
    private static let server = try! NameServer(
        records: [
            // Names of addresses: confirmed by way of RFC 2317, one of two confirmed, none, not ours, odd, half broken.
            "1.2.0.192.in-addr.arpa. 300 IN CNAME 1.0/27.2.0.192.in-addr.arpa.",
            "1.0/27.2.0.192.in-addr.arpa. 300 IN PTR Mail.Example.", "mail.example. 300 IN A 192.0.2.1",
            "2.2.0.192.in-addr.arpa. 300 IN PTR a/b.example.", "2.2.0.192.in-addr.arpa. 300 IN PTR other.example.",
            "a/b.example. 300 IN A 192.0.2.2", "other.example. 300 IN A 192.0.2.99",
            "3.2.0.192.in-addr.arpa. 300 IN PTR bank.example.", "bank.example. 300 IN A 198.51.100.1",
            "4.2.0.192.in-addr.arpa. 300 IN PTR x.broken.example.",
            "5.2.0.192.in-addr.arpa. 300 IN PTR x.broken.example.", "5.2.0.192.in-addr.arpa. 300 IN PTR five.example.",
            "five.example. 300 IN A 192.0.2.5", "7.2.0.192.in-addr.arpa. 300 IN PTR x.silent.example.",
            "\(six).ip6.arpa. 300 IN PTR six.example.", "six.example. 300 IN AAAA 2001:db8::1",
            "six.example. 300 IN A 192.0.2.1",
            // A list that is in order.
            "2.0.0.127.good.list. 300 IN A 127.0.0.2", "9.2.0.192.good.list. 300 IN A 127.0.0.4",
            "9.2.0.192.good.list. 300 IN A 127.0.0.10", #"9.2.0.192.good.list. 300 IN TXT "Listed: see  good.list/9""#,
            "\(six).good.list. 300 IN A 127.0.0.2", "1.0.0.10.good.list. 300 IN A 127.0.0.2",
            "10.2.0.192.good.list. 300 IN A 127.255.255.254", "11.2.0.192.good.list. 300 IN A 198.51.100.1",
            // One of names.
            "test.names.list. 300 IN A 127.0.1.2", "bad.example.names.list. 300 IN A 127.0.1.5",
            "laptop.names.list. 300 IN A 127.0.1.5",
            // One that has IPv6 addresses only.
            "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.sixes.list. 300 IN A 127.0.0.2",
            "\(six).sixes.list. 300 IN A 127.0.0.2",
            // Those that are not in order: all is listed, parked, refuses, without test entry.
            "everything.list. 300 IN A 127.0.0.2", "parked.list. 300 IN A 198.51.100.1",
            "refusing.list. 300 IN A 127.255.255.254", "9.2.0.192.empty.list. 300 IN A 127.0.0.2",
            // One that answers its test and then no more.
            "2.0.0.127.slow.list. 300 IN A 127.0.0.2", "9.2.0.192.text.list. 300 IN A 127.0.0.2",
        ],
        refusing: ["broken.example.", "dead.list."],
        silent: ["7.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "silent.example.", "9.2.0.192.slow.list.", "silent.list."],
        serverOptions: ["everything.list.", "parked.list.", "refusing.list."].map { "local-zone: \"\($0)\" redirect" })

    private static let loop = MultiThreadedEventLoopGroup.singleton.next()

    /// For what has to come: with a thousand tests beside it a task may wait for a minute until it has a thread.
    private static let patience = Duration.seconds(900)

    private static var limits: Lookups.Limits {
        var limits = Lookups.Limits()
        limits.watch.limit = patience
        return limits
    }

    /// A list that every test has.
    private static func list(
        _ name: String, of: ListSubject = .client, timeout: Duration = patience, authenticated: Bool = false,
        text: Bool = false
    ) -> BlockList {
        BlockList(
            name: name, zone: "\(name).list", of: of, timeout: timeout, asksForAuthenticated: authenticated,
            wantsText: text)
    }

    /// A session of its own, and the log of its lookups.
    private final class Session: Sendable {
        let lookups: Lookups
        let log = KeptLog()
        private let session: NIOLoopBound<SessionLookups>

        init(
            _ client: String, trusted: Bool = false, lists: [BlockList] = [], server: NameServer? = nil,
            limits: Lookups.Limits = LookupsTests.limits, ptrTimeout: Duration = patience
        ) async throws {
            let (log, loop) = (log, LookupsTests.loop)
            let resolver = try Resolver(servers: [("127.0.0.1", (server ?? LookupsTests.server).port)], dnssec: .off)
            let lookups = Lookups(
                .init(lists: lists, hostname: "mx.example.org", ptrTimeout: ptrTimeout), limits: limits,
                resolver: resolver, logger: Logger(label: "test") { _ in log })
            self.lookups = lookups
            lookups.start()
            let address = client == "local" ? nil : try SocketAddress(ipAddress: client, port: 4711)
            let facts = ConnectionFacts(
                peer: address, local: address == nil ? try SocketAddress(unixDomainSocketPath: "/s") : address)
            session = try await loop.submit {
                NIOLoopBound(lookups.session(client: facts.peer, isTrusted: trusted, on: loop), eventLoop: loop)
            }.get()
        }

        func on<Value: Sendable>(_ body: @escaping @Sendable (SessionLookups) -> Value) async throws -> Value {
            try await LookupsTests.loop.submit { [session] in body(session.value) }.get()
        }

        func known(
            _ facts: Set<Fact>, about subject: LookupSubject = .init()
        ) async throws -> SessionLookups.Known {
            let promise = LookupsTests.loop.makePromise(of: SessionLookups.Known.self)
            try await on { $0.values(facts, about: subject) { promise.succeed($0) } }
            return try await promise.futureResult.get()
        }

        func listing(_ list: String, about subject: LookupSubject = .init()) async throws -> ListingFact? {
            try await known([.dnsbl(list)], about: subject).listings[list]
        }
    }

    /// Returns when `holds` is true; at the latest after `limit`, and what is expected then fails.
    private static func wait(
        _ limit: Duration = .seconds(180), _ holds: () async throws -> Bool
    ) async throws {
        let end = ContinuousClock.now + limit
        while try await !holds(), ContinuousClock.now < end { try await Task.sleep(for: .milliseconds(5)) }
    }

    private static func ips(_ texts: String...) -> [IPAddress] { texts.compactMap { IPAddress($0) } }

    // MARK: Names of clients

    @Test(arguments: [
        ("192.0.2.1", PTRFact(confirmed: ["mail.example"], reverse: "mail.example")),
        ("::ffff:192.0.2.1", PTRFact(confirmed: ["mail.example"], reverse: "mail.example")),
        ("192.0.2.2", PTRFact(confirmed: ["a/b.example"], reverse: "a/b.example")),
        // Anybody can write a bank's name there.
        ("192.0.2.3", PTRFact(reverse: "bank.example")),
        ("192.0.2.4", PTRFact(reverse: "x.broken.example", failure: "SERVFAIL")),
        ("192.0.2.5", PTRFact(confirmed: ["five.example"], reverse: "five.example")),
        ("192.0.2.6", PTRFact()), ("2001:db8::1", PTRFact(confirmed: ["six.example"], reverse: "six.example")),
        ("2001:db8::2", PTRFact()), ("local", PTRFact()),
    ])
    func names(client: String, names: PTRFact) async throws {
        #expect(try await Session(client).known([.ptr]).ptr == names)
    }

    @Test func namesInTime() async throws {
        let session = try await Session("192.0.2.7", ptrTimeout: .milliseconds(50))
        let fact = try #require(try await session.known([.ptr]).ptr)
        #expect(fact.failure?.hasPrefix("no answer within") == true)
        #expect(fact.confirmed.isEmpty)
        #expect(session.lookups.counts.timedOut == 1)
    }

    /// A client whose names nobody knows does not wait for them with each message.
    @Test func namesAreOfTheSession() async throws {
        let session = try await Session("192.0.2.7", ptrTimeout: .milliseconds(50))
        let fact = try #require(try await session.known([.ptr]).ptr)
        #expect(fact.failure != nil)
        let again = try await session.on { lookups in
            (1...5).map { transaction in
                var known: PTRFact?
                lookups.values([.ptr], about: .init(transaction: UInt64(transaction))) { known = $0.ptr }
                return known
            }
        }
        #expect(again == Array(repeating: fact, count: 5))
        #expect(session.lookups.counts.timedOut == 1)
    }

    /// Not for ever.
    @Test func namesAreAskedAgainInTime() async throws {
        var limits = Lookups.Limits()
        limits.namesKept = .zero
        let session = try await Session("192.0.2.7", limits: limits, ptrTimeout: .milliseconds(50))
        for transaction in 0..<3 { _ = try await session.known([.ptr], about: .init(transaction: UInt64(transaction))) }
        #expect(session.lookups.counts.timedOut == 3)
    }

    // MARK: Lists

    @Test(arguments: [
        ("192.0.2.9", ListingFact.listed(ips("127.0.0.10", "127.0.0.4"), text: nil)),
        ("::ffff:192.0.2.9", .listed(ips("127.0.0.10", "127.0.0.4"), text: nil)),
        ("2001:db8::1", .listed(ips("127.0.0.2"), text: nil)), ("192.0.2.1", .notListed),
        // Not asked: they would be listed.
        ("127.0.0.2", .notListed), ("10.0.0.1", .notListed), ("local", .notListed),
        ("192.0.2.10", .failed("the list answers with the error 127.255.255.254")),
        ("192.0.2.11", .failed("the list answers with the error 198.51.100.1")),
    ])
    func addresses(client: String, listing: ListingFact) async throws {
        #expect(try await Session(client, lists: [Self.list("good")]).listing("good") == listing)
    }

    @Test func text() async throws {
        let session = try await Session("192.0.2.9", lists: [Self.list("good", text: true)])
        let listing = ListingFact.listed(
            Self.ips("127.0.0.10", "127.0.0.4"), text: "Listed: see  good.list/9")
        #expect(try await session.listing("good") == listing)
    }

    @Test func unknownList() async throws {
        #expect(try await Session("192.0.2.9").listing("none") == .failed("there is no such list"))
    }

    @Test func authenticatedAndTrusted() async throws {
        let lists = [
            Self.list("good"),
            BlockList(
                name: "also", zone: "good.list", of: .client, timeout: Self.patience, asksForAuthenticated: true),
        ]
        let user = LookupSubject(ehlo: "c.example", isAuthenticated: true)
        let session = try await Session("192.0.2.9", lists: lists)
        #expect(try await session.listing("good", about: user) == .notListed)
        #expect(try await session.listing("also", about: user) != .notListed)
        // Before that nobody knew.
        #expect(try await session.listing("good") != .notListed)
        // A network of one's own is asked about in no case.
        let trusted = try await Session("192.0.2.9", trusted: true, lists: lists)
        #expect(try await trusted.listing("good") == .notListed)
        #expect(try await trusted.listing("also") == .notListed)
    }

    @Test func namesInLists() async throws {
        let lists = [
            BlockList(name: "senders", zone: "names.list", of: .sender, timeout: Self.patience),
            BlockList(name: "hellos", zone: "names.list", of: .ehlo, timeout: Self.patience),
        ]
        let session = try await Session("192.0.2.1", lists: lists)
        let listed = ListingFact.listed(Self.ips("127.0.1.5"), text: nil)
        func sender(_ domain: String) -> LookupSubject {
            LookupSubject(ehlo: "c.example", sender: .mailbox(Mailbox(localPart: "a", domain: domain)))
        }
        #expect(try await session.listing("senders", about: sender("Bad.Example")) == listed)
        #expect(try await session.listing("senders", about: sender("good.example")) == .notListed)
        #expect(try await session.listing("senders", about: sender("mail.bad.example")) == .notListed)
        #expect(try await session.listing("senders", about: sender("[192.0.2.1]")) == .notListed)
        #expect(try await session.listing("senders", about: LookupSubject(sender: .null)) == .notListed)
        #expect(try await session.listing("hellos", about: LookupSubject(ehlo: "bad.example.")) == listed)
        #expect(try await session.listing("hellos", about: LookupSubject(ehlo: "laptop")) == .notListed)
        #expect(try await session.listing("hellos", about: LookupSubject(ehlo: "test")) == .notListed)
        // Nothing was said yet: no answer either way, and nobody waits for ever.
        guard case .failed = try await session.listing("hellos") else {
            Issue.record("there is nothing to look up")
            return
        }
    }

    /// Who may send without having logged in is trusted: lists of names would otherwise never be asked about senders. Not
    /// lists of addresses, and not about those who have logged in.
    @Test(arguments: ["192.0.2.9", "10.0.0.1", "127.0.0.2", "::1", "local"])
    func trustedClientsInListsOfNames(client: String) async throws {
        func list(_ name: String, _ zone: String, _ of: ListSubject) -> BlockList {
            BlockList(name: name, zone: zone, of: of, timeout: Self.patience)
        }
        let session = try await Session(
            client, trusted: true,
            lists: [
                list("senders", "names.list", .sender), list("hellos", "names.list", .ehlo),
                list("good", "good.list", .client),
            ])
        let listed = ListingFact.listed(Self.ips("127.0.1.5"), text: nil)
        var subject = LookupSubject(
            ehlo: "bad.example", sender: .mailbox(Mailbox(localPart: "a", domain: "bad.example")))
        #expect(try await session.listing("senders", about: subject) == listed)
        #expect(try await session.listing("hellos", about: subject) == listed)
        #expect(try await session.listing("good", about: subject) == .notListed)
        subject.isAuthenticated = true
        #expect(try await session.listing("senders", about: subject) == .notListed)
        #expect(try await session.listing("hellos", about: subject) == .notListed)
    }

    // MARK: Lists that are out of order

    @Test(arguments: [
        ("everything", "it lists what nobody may list"), ("parked", "it answers with 198.51.100.1, as no list does"),
        ("refusing", "it answers with the error 127.255.255.254"), ("empty", "its test entry is missing"),
        ("dead", "it does not answer: SERVFAIL"),
    ])
    func outOfOrder(name: String, fault: String) async throws {
        let session = try await Session("192.0.2.9", lists: [Self.list(name)])
        #expect(try await session.listing(name) == .failed("the list is out of order"))
        // Later ones need not wait for anything.
        #expect(try await session.listing(name, about: .init(transaction: 1)) == .failed("the list is out of order"))
        let lines = session.log.lines("block list is out of order, it is not asked until it recovers")
        #expect(lines.map(\.fields) == [["list": name, "error": fault]])
    }

    @Test func sixOnly() async throws {
        let session = try await Session("2001:db8::1", lists: [Self.list("sixes")])
        #expect(try await session.listing("sixes") == .listed(Self.ips("127.0.0.2"), text: nil))
    }

    /// A list that does not answer its test in time is off, and nobody is listed meanwhile or later.
    @Test func silentList() async throws {
        var limits = Self.limits
        limits.watch.limit = .milliseconds(300)
        let session = try await Session(
            "192.0.2.9", lists: [Self.list("silent", timeout: .milliseconds(50))], limits: limits)
        // A slow machine finds it out of order before it asks.
        let answer = try await session.listing("silent")
        #expect(answer == .failed("no answer within 0.05 seconds") || answer == .failed("the list is out of order"))
        try await Self.wait {
            !session.log.lines("block list is out of order, it is not asked until it recovers").isEmpty
        }
        #expect(
            try await session.listing("silent", about: .init(transaction: 1)) == .failed("the list is out of order"))
    }

    /// An error is told once; it is not the list that is off then, but the question that was not answered.
    @Test func refusalIsToldOnce() async throws {
        let session = try await Session("192.0.2.10", lists: [Self.list("good")])
        for transaction in 0..<3 {
            _ = try await session.listing("good", about: .init(transaction: UInt64(transaction)))
        }
        let lines = session.log.lines("block list answers with an error, nobody is taken for listed")
        #expect(lines.map(\.fields) == [["list": "good", "answer": "127.255.255.254"]])
        #expect(session.lookups.counts.failed == 3)
        #expect(session.lookups.counts.failedOfList == ["good": 3])
    }

    /// Answers missing in a row have the list looked at before its hour.
    @Test func missingAnswers() async throws {
        var limits = Self.limits
        limits.watch.missing = 2
        let session = try await Session(
            "192.0.2.9", lists: [Self.list("slow", timeout: .milliseconds(50))], limits: limits)
        for transaction in 0..<4 {
            #expect(
                try await session.listing("slow", about: .init(transaction: UInt64(transaction)))
                    == .failed("no answer within 0.05 seconds"))
        }
        #expect(session.lookups.counts.timedOut == 4)
        // Its test entry is there: it stays on.
        #expect(session.log.lines("block list is out of order, it is not asked until it recovers").isEmpty)
    }

    @Test func recovers() async throws {
        let port = try NameServer.freePort()
        let before = try NameServer(records: ["x.example. 300 IN A 192.0.2.1"], refusing: ["back.list."], port: port)
        var limits = Self.limits
        limits.watch.retry = .milliseconds(100)
        let session = try await Session(
            "192.0.2.9", lists: [Self.list("back")], server: before, limits: limits)
        #expect(try await session.listing("back") == .failed("the list is out of order"))
        before.stop()
        let after = try NameServer(
            records: ["2.0.0.127.back.list. 300 IN A 127.0.0.2", "9.2.0.192.back.list. 300 IN A 127.0.0.2"], port: port)
        defer { after.stop() }
        try await Self.wait { !session.log.lines("block list is in order again").isEmpty }
        // libunbound may leave a server alone for a moment that was gone, although one of its answers has come.
        var transaction: UInt64 = 0
        var listing: ListingFact?
        try await Self.wait {
            transaction += 1
            listing = try await session.listing("back", about: .init(transaction: transaction))
            return listing == .listed(Self.ips("127.0.0.2"), text: nil)
        }
        #expect(listing == .listed(Self.ips("127.0.0.2"), text: nil))
        #expect(session.log.lines("block list is out of order, it is not asked until it recovers").count == 1)
    }

    // MARK: One session

    /// Begun twice it is one lookup; several may wait for it, and whoever comes later is answered at once.
    @Test func once() async throws {
        let session = try await Session("192.0.2.9", lists: [Self.list("good")])
        let promises = (0..<3).map { _ in Self.loop.makePromise(of: SessionLookups.Known.self) }
        let running = try await session.on { lookups in
            lookups.begin([.ptr, .dnsbl("good")], about: .init())
            lookups.begin([.dnsbl("good")], about: .init(ehlo: "c.example"))
            for promise in promises { lookups.values([.ptr, .dnsbl("good")], about: .init()) { promise.succeed($0) } }
            return lookups.runningCount
        }
        #expect(running == 2)
        for promise in promises {
            let known = try await promise.futureResult.get()
            #expect(known.ptr == PTRFact())
            #expect(known.listings["good"] != nil)
        }
        let isAtOnce = try await session.on { lookups in
            var isKnown = false
            lookups.values([.ptr], about: .init(ehlo: "d.example", transaction: 7)) { _ in isKnown = true }
            return isKnown
        }
        #expect(isAtOnce)
        #expect(try await session.on { $0.known(about: .init()).listings.count } == 1)
    }

    /// Another sender is another question, and the one before is of no interest any more.
    @Test func replaced() async throws {
        let lists = [
            BlockList(name: "senders", zone: "names.list", of: .sender, timeout: Self.patience),
            BlockList(name: "slow", zone: "silent.example", of: .sender, timeout: Self.patience),
        ]
        let session = try await Session("192.0.2.1", lists: lists)
        @Sendable func subject(_ domain: String) -> LookupSubject {
            LookupSubject(sender: .mailbox(Mailbox(localPart: "a", domain: domain)))
        }
        #expect(try await session.listing("senders", about: subject("bad.example")) != .notListed)
        #expect(try await session.listing("senders", about: subject("good.example")) == .notListed)
        #expect(try await session.on { $0.known(about: subject("bad.example")).listings.isEmpty })
        // On a loaded machine the list, which answers nothing, is found out of order before it is asked: then once more.
        for _ in 0..<5 {
            let session = try await Session("192.0.2.1", lists: lists)
            let waiting = Task { try await session.listing("slow", about: subject("a.example")) }
            try await Self.wait(.seconds(5)) { try await session.on { $0.runningCount } > 0 }
            guard try await session.on({ $0.runningCount }) > 0 else { continue }
            try await session.on { $0.begin([.dnsbl("slow")], about: subject("b.example")) }
            #expect(try await waiting.value == .failed("the session has gone on"))
            #expect(try await session.on { $0.runningCount } == 1)
            return
        }
        Issue.record("the list was never asked")
    }

    /// Nobody is called after the end, and neither session nor task nor question is left.
    @Test func end() async throws {
        let session = try await Session("192.0.2.7", lists: [Self.list("slow")])
        let called = try await Self.loop.submit { () -> NIOLoopBound<Called> in
            let called = Called()
            let lookups = session.lookups.session(
                client: ConnectionFacts(peer: try? SocketAddress(ipAddress: "192.0.2.7", port: 1), local: nil).peer,
                isTrusted: false, on: Self.loop)
            lookups.values([.ptr, .dnsbl("slow")], about: .init()) { _ in called.count += 1 }
            called.session = lookups
            return NIOLoopBound(called, eventLoop: Self.loop)
        }.get()
        try await Self.wait { session.lookups.load.running > 0 }
        try await Self.loop.submit {
            called.value.session?.end()
            called.value.dropped = called.value.session
            called.value.session = nil
        }.get()
        try await Self.wait { session.lookups.load == (0, 0) }
        #expect(session.lookups.load == (0, 0))
        try await Self.wait { try await Self.loop.submit { called.value.dropped == nil }.get() }
        #expect(try await Self.loop.submit { called.value.dropped == nil }.get())
        #expect(try await Self.loop.submit { called.value.count }.get() == 0)
    }

    private final class Called {
        var count = 0
        var session: SessionLookups?
        weak var dropped: SessionLookups?
    }

    /// A session that is dropped without an end ends by itself.
    @Test func dropped() async throws {
        let session = try await Session("192.0.2.7")
        try await Self.loop.submit {
            let client = ConnectionFacts(peer: try? SocketAddress(ipAddress: "192.0.2.7", port: 1), local: nil).peer
            for _ in 0..<5 {
                session.lookups.session(client: client, isTrusted: false, on: Self.loop).begin([.ptr], about: .init())
            }
        }.get()
        try await Self.wait { session.lookups.load == (0, 0) }
        #expect(session.lookups.load == (0, 0))
    }

    // MARK: Floods

    /// All connections that an address may have at once, with all that is found by them: each list is asked once, its name
    /// once, and nothing is left out. One that goes takes nothing from the others.
    @Test func manyConnectionsOfOneAddress() async throws {
        let log = FileManager.default.temporaryDirectory.appendingPathComponent("questions-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: log) }
        let server = try NameServer(
            records: [
                "2.0.0.127.one.list. 300 IN A 127.0.0.2", "9.2.0.192.one.list. 300 IN A 127.0.0.2",
                "2.0.0.127.two.list. 300 IN A 127.0.0.2", "9.2.0.192.two.list. 300 IN A 127.0.0.3",
                "9.2.0.192.in-addr.arpa. 300 IN PTR nine.example.", "nine.example. 300 IN A 192.0.2.9",
            ], serverOptions: ["log-queries: yes", "logfile: \"\(log.path)\""])
        defer { server.stop() }
        let first = try await Session("192.0.2.9", lists: [Self.list("one"), Self.list("two")], server: server)
        let client = ConnectionFacts(peer: try SocketAddress(ipAddress: "192.0.2.9", port: 1), local: nil).peer
        let facts: Set<Fact> = [.ptr, .dnsbl("one"), .dnsbl("two")]
        let promises = (0..<100).map { _ in Self.loop.makePromise(of: SessionLookups.Known.self) }
        let sessions = try await Self.loop.submit { () -> NIOLoopBound<[SessionLookups]> in
            let sessions = promises.map { promise in
                let session = first.lookups.session(client: client, isTrusted: false, on: Self.loop)
                session.values(facts, about: .init()) { promise.succeed($0) }
                return session
            }
            let gone = first.lookups.session(client: client, isTrusted: false, on: Self.loop)
            gone.begin(facts, about: .init())
            gone.end()
            return NIOLoopBound(sessions, eventLoop: Self.loop)
        }.get()
        for promise in promises {
            let known = try await promise.futureResult.get()
            #expect(known.listings["one"] == .listed(Self.ips("127.0.0.2"), text: nil))
            #expect(known.listings["two"] == .listed(Self.ips("127.0.0.3"), text: nil))
            #expect(known.ptr?.confirmed == ["nine.example"])
        }
        #expect(first.lookups.counts.leftOut == 0)
        #expect(first.lookups.shared.count == 0)
        let lines = try String(contentsOf: log, encoding: .utf8).split(separator: "\n")
        for name in ["9.2.0.192.one.list.", "9.2.0.192.two.list.", "9.2.0.192.in-addr.arpa.", "nine.example."] {
            #expect(lines.count { $0.contains(" \(name) ") } == 1, "\(name)")
        }
        try await Self.loop.submit { for session in sessions.value { session.end() } }.get()
    }

    /// As many connections of one place that have different addresses.
    @Test func roomForAllListsOfAPlace() {
        let limits = Lookups.Limits()
        #expect(limits.line(forLists: 0) == limits.line)
        #expect(limits.line(forLists: 3).waitingOfSource == 3 * limits.line.waitingOfSource)
        #expect(limits.line(forLists: 3).waiting == 3 * limits.line.waiting)
    }

    /// A thousand sessions from one place, each with an address of its own: few questions at a time, what finds no room fails at once and is told once, and
    /// another client is served meanwhile.
    @Test func flood() async throws {
        var limits = Self.limits
        limits.line = .init(running: 8, runningOfSource: 4, waiting: 40, waitingOfSource: 20)
        let session = try await Session("192.0.2.1", lists: [Self.list("good")], limits: limits)
        let sessions = try await Self.loop.submit { () -> NIOLoopBound<[SessionLookups]> in
            let sessions = (0..<1000).map { number in
                let address = try? SocketAddress(ipAddress: "2001:db8:7::\(String(number, radix: 16))", port: 1)
                let client = ConnectionFacts(peer: address, local: nil).peer
                return session.lookups.session(client: client, isTrusted: false, on: Self.loop)
            }
            for session in sessions { session.begin([.ptr], about: .init()) }
            return NIOLoopBound(sessions, eventLoop: Self.loop)
        }.get()
        try await Self.wait { session.lookups.counts.leftOut >= 976 }
        #expect(session.lookups.counts.leftOut == 976)
        // Between two questions a session is not in the line.
        try await Self.wait { session.lookups.load == (4, 20) }
        #expect(session.lookups.load == (4, 20))
        #expect(session.log.lines("too many lookups at once, some are left out").count == 1)
        let known = try await session.known([.ptr, .dnsbl("good")])
        #expect(known.ptr?.confirmed == ["mail.example"])
        #expect(known.listings["good"] == .notListed)
        try await Self.loop.submit { for session in sessions.value { session.end() } }.get()
        try await Self.wait { session.lookups.load == (0, 0) }
        #expect(session.lookups.load == (0, 0))
    }
}
