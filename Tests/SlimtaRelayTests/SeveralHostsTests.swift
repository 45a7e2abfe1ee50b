// Relays to several hosts: in turn or in order, and when one cannot be used, the next in the same attempt.

import NIOCore
import SlimtaDNS
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.timeLimit(.minutes(4)))
struct SeveralHostsTests {
    private static func relay(_ servers: [ScriptedServer], isInOrder: Bool) throws -> FixedHostRelay {
        try FixedHostRelay(
            FixedHostRelayTests.options(), to: servers.map { .host("127.0.0.1", port: $0.port) }, isInOrder: isInOrder,
            resolver: FixedHostRelayTests.resolver, group: Fixture.group, logger: Fixture.logger)
    }

    private static func servers(_ count: Int) async throws -> [ScriptedServer] {
        var servers: [ScriptedServer] = []
        for _ in 0..<count {
            servers.append(try await ScriptedServer([FixedHostRelayTests.greeting, .serve(["PIPELINING"])]))
        }
        return servers
    }

    @Test(arguments: [(false, [2, 2, 2]), (true, [6, 0, 0])])
    func turns(_ isInOrder: Bool, _ expected: [Int]) async throws {
        let servers = try await Self.servers(3)
        let relay = try Self.relay(servers, isInOrder: isInOrder)
        for _ in 0..<6 { #expect(await relay.attempt(Delivery(to: ["a@x.test"])).map(\.result) == [.delivered]) }
        #expect(servers.map(\.contents.count) == expected)
        let name = servers.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
        #expect(relay.destination(for: "x.test") == name && relay.destination(for: "y.test") == name)
        await relay.shutDown()
        for server in servers { await server.stop() }
    }

    /// Whatever the first does that is not for good, the message goes to the next at once, and once.
    @Test(arguments: [
        [ScriptedServer.Step.close], [.send("421 4.3.2 busy\r\n"), .close], [.send("554 5.3.2 no mail today\r\n")],
        [
            FixedHostRelayTests.greeting, .expect("EHLO"), .send("250 x\r\n"), .expect("MAIL"),
            .send("451 4.3.0 later\r\n"),
        ],
        [
            FixedHostRelayTests.greeting, .expect("EHLO"), .send("250 x\r\n"), .expect("MAIL"), .send("250 a\r\n"),
            .expect("RCPT"), .send("450 4.2.0 later\r\n"), .serve([]),
        ],
    ])
    func theNext(_ script: [ScriptedServer.Step]) async throws {
        let first = try await ScriptedServer(script)
        let others = try await Self.servers(1)
        let relay = try Self.relay([first] + others, isInOrder: true)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.result) == [.delivered], "\(outcomes)")
        #expect(first.connections == 1 && others[0].contents.count == 1 && first.contents.isEmpty)
        await relay.shutDown()
        await first.stop()
        await others[0].stop()
    }

    /// Who is refused for good is refused, whatever others would say.
    @Test func refused() async throws {
        let first = try await ScriptedServer(
            FixedHostRelayTests.ehlo + [
                .send("250 x\r\n"), .expect("MAIL"), .send("250 a\r\n"), .expect("RCPT"), .send("550 5.1.1 nobody\r\n"),
                .serve([]),
            ])
        let others = try await Self.servers(1)
        let relay = try Self.relay([first] + others, isInOrder: true)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.reply.description) == ["550 5.1.1 nobody"])
        #expect(others[0].connections == 0)
        await relay.shutDown()
        await first.stop()
        await others[0].stop()
    }

    // MARK: Which addresses

    @Test func choices() throws {
        let texts = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]
        let addresses = try texts.map { try SocketAddress(ipAddress: $0, port: 25) }
        func chosen(_ choice: AddressChoice) -> [String?] { choice.chosen(addresses, at: { $0 }).map(\.ipAddress) }
        #expect(chosen(.any) == texts)
        #expect(chosen(.v4) == ["192.0.2.1", "192.0.2.2"])
        #expect(chosen(.v6) == ["2001:db8::1", "2001:db8::2"])
        #expect(chosen(.preferV4) == ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"])
        #expect(chosen(.preferV6) == ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"])
    }

    /// A host whose addresses are all of the other family is not connected to, and mail waits.
    @Test func noneOfThem() async throws {
        let server = try await ScriptedServer([FixedHostRelayTests.greeting, .serve([])])
        let names = try NameServer(records: [
            "smart.test. 300 IN A 127.0.0.1", "x.test. 300 IN MX 10 smart.test.", "y.test. 300 IN MX 10 smart.test.",
        ])
        let resolver = try Fixture.resolver(names.port)
        for (choice, isUsed) in [(AddressChoice.v6, false), (.preferV6, true), (.v4, true)] {
            let options = FixedHostRelayTests.options {
                $0.addresses = choice
                $0.port = server.port
                $0.networks = PermittedNetworks(allowed: [NetworkRange("127.0.0.0/8")!])
            }
            let fixed = try FixedHostRelay(
                options, to: [.host("smart.test", port: server.port)], resolver: resolver, group: Fixture.group,
                logger: Fixture.logger)
            let mx = try MXRelay(
                options, resolver: resolver, own: OwnAddresses(listeners: []), group: Fixture.group,
                logger: Fixture.logger)
            for relay in [fixed, mx] as [any ConnectingRelay] {
                let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
                #expect(outcomes.map(\.result) == [isUsed ? .delivered : .temporary])
                if !isUsed {
                    #expect(outcomes[0].reply.text.contains("by ip = \"v6\" it is not used"), "\(outcomes[0].reply)")
                }
                await relay.shutDown()
            }
        }
        await server.stop()
    }

    /// A name of ours that we do not say in EHLO is ours all the same.
    @Test func ownNames() async throws {
        let names = try NameServer(records: ["x.test. 300 IN MX 10 mail.test.", "mail.test. 300 IN A 192.0.2.1"])
        var options = RelayOptions(hostname: "out.test")
        options.otherNames = ["Mail.test"]
        let relay = try MXRelay(
            options, resolver: try Fixture.resolver(names.port), own: OwnAddresses(listeners: []),
            group: Fixture.group, logger: Fixture.logger)
        let outcomes = await relay.attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes.map(\.reply.code) == [554] && outcomes[0].reply.text.contains("come back"))
        await relay.shutDown()
    }
}
