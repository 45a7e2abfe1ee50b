// Who may use which session: never one that was made under another plan. Rules, real sessions, and what is remembered.

import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaSASL
import SlimtaSMTP
import SlimtaTLS
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct SessionPlanTests {
    /// Everything that a plan can differ by, and the host's name.
    static func keys() throws -> [ConnectionKey] {
        let contexts: [TLSClientContext?] = try [
            nil, TLSClientContext(verifies: false), TLSClientContext(verifies: true), TLSClientContext(verifies: true),
        ]
        let credentials: [SASLClient.Credentials?] = [
            nil, .init(username: "a", password: "x"), .init(username: "a", password: "y"),
            .init(username: "b", password: "x"),
        ]
        let address = try SocketAddress(ipAddress: "192.0.2.1", port: 25)
        var keys: [ConnectionKey] = []
        for name in [nil, "mx.test", "other.test"] as [String?] {
            for demand in Self.demands {
                for mayGoInClear in [false, true] {
                    for context in contexts {
                        for login in credentials {
                            keys.append(
                                ConnectionKey(
                                    host: MailHost(address: address, name: name),
                                    plan: SessionPlan(
                                        demand: demand, mayGoInClear: mayGoInClear, tls: context, credentials: login)))
                        }
                    }
                }
            }
        }
        return keys
    }

    /// Different in one thing each: names, records, and what SNI says.
    private static let demands: [TLSPlan] = {
        func dane(_ base: String, _ names: [String], _ octet: UInt8) -> TLSPlan.DANE {
            .init(
                base: base, names: names,
                records: [TLSARecord(usage: 2, selector: 1, matching: 1, data: Array(repeating: octet, count: 32))])
        }
        return TLSPlan.Encryption.allCases.map { TLSPlan($0, serverName: "mx.test") } + [
            TLSPlan(.always, serverName: "other.test"), TLSPlan(.always, serverName: nil),
            TLSPlan(.always, pkixName: "mx.test", serverName: "mx.test"),
            TLSPlan(.always, pkixName: "o.test", serverName: "mx.test"),
            TLSPlan(.always, pkixName: "mx.test", otherNames: ["o.test"], serverName: "mx.test"),
            TLSPlan(.always, dane: dane("mx.test", [], 1), serverName: "mx.test"),
            TLSPlan(.always, dane: dane("mx.test", [], 2), serverName: "mx.test"),
            TLSPlan(.always, dane: dane("mx.test", ["x.test"], 1), serverName: "mx.test"),
            TLSPlan(.always, dane: dane("o.test", [], 1), serverName: "mx.test"),
            TLSPlan(.always, dane: dane("mx.test", [], 1), pkixName: "mx.test", serverName: "mx.test"),
        ]
    }()

    /// With every plan's idle session there, each job gets that of its own plan, or a new one.
    @Test func theProductOfPlans() throws {
        let keys = try Self.keys()
        #expect(Set(keys).count == keys.count)
        var machine = ConnectionPoolMachine<ConnectionKey, Int>(.init(total: 10_000, perDestination: 10_000))
        var sessions: [UInt64: ConnectionKey] = [:]
        for (number, key) in keys.enumerated() {
            // All others before it are idle.
            guard case .connect(let id, number) = machine.submit(number, for: key) else {
                Issue.record("\(key) got a session that was made for \(sessions)")
                return
            }
            sessions[id] = key
            machine.opened(id)
            _ = machine.released(id)
        }
        for (number, key) in keys.enumerated().reversed() {
            guard case .start(let id, number) = machine.submit(number, for: key) else {
                Issue.record("\(key) did not get its own")
                return
            }
            #expect(sessions[id] == key)
            _ = machine.released(id)
        }
    }

    // MARK: Sessions

    /// A server with a certificate for mx.test, and plans for it: all can be kept, but for the last one.
    private final class World {
        let server: ScriptedServer
        let pool: ConnectionPool
        let plans: [SessionPlan]
        let impossible: SessionPlan
        private let certificates: Certificates

        init() async throws {
            let (tls, file, certificates) = try FixedHostRelayTests.serverContext("mx.test")
            self.certificates = certificates
            server = try await ScriptedServer(
                FixedHostRelayTests.ehlo + [
                    FixedHostRelayTests.tlsOffer, .expect("STARTTLS"), .send("220 go\r\n"), .startTLS(tls),
                    .expect("EHLO client.test"), .send("250-x\r\n250 AUTH PLAIN\r\n"), .serve([]),
                ])
            pool = try ConnectionPool(FixedHostRelayTests.options(), group: Fixture.group, logger: Fixture.logger)
            let anything = try TLSClientContext(verifies: false)
            let trusting = try TLSClientContext(verifies: true, trustFile: file)
            let again = try TLSClientContext(verifies: true, trustFile: file)
            let (open, must) = (TLSPlan(.ifOffered, serverName: "mx.test"), TLSPlan(.always, serverName: "mx.test"))
            let verified = TLSPlan(.always, pkixName: "mx.test", serverName: "mx.test")
            plans = [
                SessionPlan(demand: open, tls: anything),
                SessionPlan(demand: open, mayGoInClear: true, tls: anything),
                SessionPlan(demand: must, tls: anything),
                SessionPlan(demand: verified, tls: trusting),
                SessionPlan(demand: verified, tls: again),
                SessionPlan(demand: verified, tls: trusting, credentials: .init(username: "a", password: "x")),
                SessionPlan(demand: verified, tls: trusting, credentials: .init(username: "b", password: "x")),
            ]
            impossible = SessionPlan(
                demand: TLSPlan(.always, pkixName: "other.test", serverName: "mx.test"), tls: trusting)
        }

        func deliver(_ plan: SessionPlan) async -> Result<([Outcome], [OutcomeCause]), HostFailure> {
            let message = OutgoingMessage(Delivery(to: ["a@x.test"]), convertsToSevenBit: false)
            let transaction = SMTPTransaction(
                sender: message.sender, recipients: [Mailbox("a@x.test")], size: message.content.size,
                eightBit: message.eightBit, smtpUTF8Need: nil)
            let key = ConnectionKey(host: MailHost(address: server.address, name: "mx.test"), plan: plan)
            return await pool.deliver(
                SMTPJob(key: key, transaction: transaction, content: message.content, end: .now() + .seconds(30)))
        }

        func end() async {
            await pool.shutDown()
            await server.stop()
        }
    }

    /// In every order of two plans: the second never goes over the session of the first, and both keep their own.
    @Test func noSessionServesAnotherPlan() async throws {
        let world = try await World()
        var made: Set<SessionPlan> = []
        for first in world.plans {
            for second in world.plans.reversed() {
                for plan in [first, second] {
                    let outcomes = try await world.deliver(plan).get().0
                    #expect(outcomes.map(\.result) == [.delivered])
                    made.insert(plan)
                    #expect(world.server.connections == made.count && world.pool.openCount == made.count)
                }
            }
        }
        #expect(made.count == 7)
        #expect(world.server.lines.count { $0.hasPrefix("AUTH") } == 2)
        #expect(world.server.faults == [])
        await world.end()
    }

    /// However many good sessions there are with the same host, one that has to be verified and cannot be is none. What
    /// comes of that is remembered for that plan alone.
    @Test func noSessionServesWhatItWasNotVerifiedFor() async throws {
        let world = try await World()
        for plan in world.plans { _ = try await world.deliver(plan).get() }
        let connections = world.server.connections
        for round in 1...2 {
            guard case .failure(let failure) = await world.deliver(world.impossible) else {
                Issue.record("mail went over a session that was not verified")
                return
            }
            #expect(failure.outcome.result == .temporary && failure.outcome.reply.status == EnhancedStatus(4, 7, 5))
            #expect(failure.isOfPlan)
            #expect(world.server.connections == connections + round)
        }
        #expect(world.server.contents.count == world.plans.count)
        await world.end()
    }

    // MARK: Policy

    @Test(arguments: [
        (TLSFloor.none, 1000, false), (.opportunistic, 0, false), (.opportunistic, 299, false),
        (.opportunistic, 300, true), (.required, 1000, false), (.verify, 1000, false),
    ])
    func policy(_ floor: TLSFloor, _ age: Int, _ mayGoInClear: Bool) throws {
        var options = RelayOptions(hostname: "client.test")
        options.security = floor
        func plan(_ policy: SessionPolicy, _ name: String = "mx.test", _ origin: RelayOrigin = .domain) -> SessionPlan?
        {
            let domain = policy.domain(origin, "example.test", isTrusted: false)
            let security = HostSecurity(of: HostFinding(name, isAddress: origin == .literal), in: domain)
            return security.plan.map { policy.session($0, age: .seconds(age)) }
        }
        let made = try #require(plan(try SessionPolicy(options)))
        let securities: [TLSFloor: SMTPClientMachine.Security] = [.none: .none, .opportunistic: .opportunistic]
        #expect(made.security == securities[floor] ?? .required && made.mayGoInClear == mayGoInClear)
        #expect((made.tls == nil) == (floor == .none))
        #expect(made.verification == (floor == .verify ? .system(host: "mx.test") : .none) && made.credentials == nil)

        // A password: to whom it is meant for, and never in clear.
        let credentials = SASLClient.Credentials(username: "a", password: "x")
        let policy = try SessionPolicy(options, login: .credentials(credentials))
        let login = try #require(plan(policy))
        #expect(login.security == .required && !login.mayGoInClear)
        #expect(login.verification == .system(host: "mx.test") && login.credentials == credentials)
        #expect(plan(policy, "192.0.2.1", .literal)?.verification == .system(host: "192.0.2.1"))
    }

    /// `[[tls_policy]]`: the first that is for a domain counts, and its names are as good as the host's.
    @Test func demandsOfTheOperator() throws {
        let policy = try SessionPolicy(
            RelayOptions(hostname: "client.test"),
            demands: [
                TLSDemand(.verify, names: ["a.test", "b.test"]) { $0 == "one.test" },
                TLSDemand(.none) { $0.hasSuffix(".test") },
            ])
        func verification(_ domain: String) -> TLSVerification? {
            let domain = policy.domain(.domain, domain, isTrusted: false)
            return HostSecurity(of: HostFinding("mx.test"), in: domain).plan.map {
                policy.session($0, age: .zero).verification
            }
        }
        #expect(verification("one.test") == .system(host: "a.test", others: ["b.test"]))
        #expect(policy.domain(.domain, "two.test", isTrusted: true).floor == .none)
        #expect(policy.domain(.domain, "example", isTrusted: true).floor == .opportunistic)
    }

    // MARK: Memory

    @Test func whatIsRememberedOfPlans() throws {
        let (a, b) = (Self.key(1, .ifOffered), Self.key(1, .always))
        func site() -> Site {
            Sites(logger: Fixture.logger).site(SiteKey(host: "mx1.test", port: 25), connections: 20)
        }
        func usable(_ site: Site) -> [ConnectionKey] { [a, b].filter { site.choose(from: [$0]) != nil } }
        let silent = HostTrialMachineTests.outcome(.temporary, isRemote: false)
        for isTimeout in [false, true] {
            let site = site()
            // TLS failed, as this plan wants it: nothing is wrong with the address.
            var failure = HostFailure(outcome: silent, isTimeout: isTimeout, isOfPlan: true)
            #expect(!site.failed(b, failure, isBesideOthers: false))
            #expect(usable(site) == [a] && !site.isLeftAlone(b))
            // Nobody answers there, whatever is wanted of him.
            failure.isOfPlan = false
            #expect(!site.failed(b, failure, isBesideOthers: false))
            #expect(usable(site) == [] && site.isLeftAlone(a) && site.isLeftAlone(b))
        }
        // A session that hung is no matter of plans either: others are first, and if there are none, so be it.
        for lesson in [HostTrialMachine.Lesson.dead, .hung] {
            let site = site()
            site.learn(lesson, of: b)
            #expect(usable(site) == [] && !site.isLeftAlone(a))
        }
        // Only TLS failed: the host has answered, and no other is better than it.
        let (answering, other) = (site(), Self.key(2, .ifOffered))
        #expect(answering.choose(from: [a, other]) == a)
        let failure = HostFailure(outcome: silent, isTLSFailure: true)
        #expect(!answering.failed(a, failure, isBesideOthers: false))
        #expect(answering.choose(from: [a, other]) == a)
        let doubts = DoubtMemory()
        let id = QueueID(at: .now())
        doubts.note(id, at: b)
        #expect(doubts.isInDoubt(id, at: a) && !doubts.isInDoubt(QueueID(at: .now()), at: a))
    }

    static func key(_ number: Int, _ encryption: TLSPlan.Encryption) -> ConnectionKey {
        let address = try! SocketAddress(ipAddress: "192.0.2.\(number)", port: 25)
        return ConnectionKey(
            host: MailHost(address: address, name: "mx\(number).test"),
            plan: SessionPlan(demand: TLSPlan(encryption, serverName: nil)))
    }
}
