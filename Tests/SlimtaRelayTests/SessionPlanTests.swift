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
            for security in [SMTPClientMachine.Security.none, .opportunistic, .required] {
                for mayGoInClear in [false, true] {
                    for context in contexts {
                        for verification in [TLSVerification.none, .system(host: "mx.test"), .system(host: "o.test")] {
                            for login in credentials {
                                keys.append(
                                    ConnectionKey(
                                        host: MailHost(address: address, name: name),
                                        plan: SessionPlan(
                                            security: security, mayGoInClear: mayGoInClear, tls: context,
                                            verification: verification, credentials: login)))
                            }
                        }
                    }
                }
            }
        }
        return keys
    }

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
            let verified = TLSVerification.system(host: "mx.test")
            plans = [
                SessionPlan(security: .opportunistic, tls: anything),
                SessionPlan(security: .opportunistic, mayGoInClear: true, tls: anything),
                SessionPlan(security: .required, tls: anything),
                SessionPlan(security: .required, tls: trusting, verification: verified),
                SessionPlan(security: .required, tls: again, verification: verified),
                SessionPlan(
                    security: .required, tls: trusting, verification: verified,
                    credentials: .init(username: "a", password: "x")),
                SessionPlan(
                    security: .required, tls: trusting, verification: verified,
                    credentials: .init(username: "b", password: "x")),
            ]
            impossible = SessionPlan(security: .required, tls: trusting, verification: .system(host: "other.test"))
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
        (SMTPClientMachine.Security.none, 1000, false), (.opportunistic, 0, false), (.opportunistic, 299, false),
        (.opportunistic, 300, true), (.required, 1000, false),
    ])
    func policy(_ security: SMTPClientMachine.Security, _ age: Int, _ mayGoInClear: Bool) throws {
        var options = RelayOptions(hostname: "client.test")
        options.security = security
        let host = MailHost(address: try SocketAddress(ipAddress: "192.0.2.1", port: 25), name: "mx.test")
        let plan = try SessionPolicy(options).plan(for: host, age: .seconds(age))
        #expect(plan.security == security && plan.mayGoInClear == mayGoInClear)
        #expect((plan.tls == nil) == (security == .none))
        #expect(plan.verification == .none && plan.credentials == nil)

        // A password: to whom it is meant for, and never in clear.
        let credentials = SASLClient.Credentials(username: "a", password: "x")
        let policy = try SessionPolicy(options, credentials: credentials)
        let login = policy.plan(for: host, age: .seconds(age))
        #expect(login.security == security && !login.mayGoInClear)
        #expect(login.verification == .system(host: "mx.test") && login.credentials == credentials)
        let nameless = policy.plan(for: MailHost(address: host.address, name: nil), age: .zero)
        #expect(nameless.verification == .system(host: "192.0.2.1"))
    }

    // MARK: Memory

    @Test func whatIsRememberedOfPlans() throws {
        let (a, b) = (Self.key(1, .opportunistic), Self.key(1, .required))
        let id = QueueID(at: .now())
        func usable(_ memory: HostMemory, _ message: QueueID = id) -> [ConnectionKey] {
            memory.sorted([a, b], for: message).usable
        }
        for lesson in [HostTrialMachine.Lesson.dead, .hung] {
            let memory = HostMemory()
            // TLS failed, as this plan wants it: nothing is wrong with the address.
            memory.learn(lesson, of: b, id, isOfPlan: true)
            #expect(usable(memory) == [a])
            // Nobody answers there, whatever is wanted of him.
            memory.learn(lesson, of: b, id)
            #expect(usable(memory) == [])
            #expect(memory.sorted([a, b], for: id).others == [a, b])
        }
        // A message that a host may have, and how many recipients it takes, are no matter of plans either.
        let memory = HostMemory()
        memory.learn(.mayHaveIt, of: b, id)
        memory.learn(.takes(5), of: b, id)
        #expect(usable(memory) == [] && usable(memory, QueueID(at: .now())) == [a, b])
        #expect(memory.recipients(of: a.host) == 5)
    }

    static func key(_ number: Int, _ security: SMTPClientMachine.Security) -> ConnectionKey {
        let address = try! SocketAddress(ipAddress: "192.0.2.\(number)", port: 25)
        return ConnectionKey(
            host: MailHost(address: address, name: "mx\(number).test"), plan: SessionPlan(security: security))
    }
}
