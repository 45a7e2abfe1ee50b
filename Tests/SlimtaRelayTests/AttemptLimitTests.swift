// The end of an attempt: by time, size and recipients, over all hosts, and never between a message and the reply to it.

import NIOCore
import SlimtaMail
import SlimtaQueue
import TestKit
import Testing

@testable import SlimtaRelay

@Suite(.serialized, .timeLimit(.minutes(4)))
struct AttemptLimitTests {
    @Test(arguments: [(0, 1, 1201), (1 << 20, 1, 1261), (50 << 20, 1, 4201), (0, 100, 1300)])
    func bySizeAndRecipients(_ size: Int, _ recipients: Int, _ seconds: Int) {
        let options = RelayOptions(hostname: "client.test")
        #expect(options.attemptLimit(size: size, recipients: recipients) == .seconds(seconds))
    }

    /// Each host keeps its own time-outs, and all together do not: nobody is asked behind the end.
    @Test(arguments: BackupTests.stages) func hangs(_ before: [ScriptedServer.Step]) async throws {
        let world = try BackupTests.world()
        let primary = try await world.server(1, before + [.expect("never")])
        let backup = try await world.server(2, MXRelayTests.serve)
        let relay = try world.relay { $0.attemptTimeout = .milliseconds(500) }
        let outcomes = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.result) == [.temporary])
        #expect(primary.connections == 1 && backup.connections == 0)
        await relay.shutDown()
        await world.end()
    }

    /// A message that was sent is waited for: giving up makes a second copy.
    @Test func theReplyToTheMessageIsWaitedFor() async throws {
        let world = try BackupTests.world()
        let slow = try await world.server(
            1,
            BackupTests.opening + BackupTests.mail + BackupTests.recipient + BackupTests.data
                + [.expectContent, .pause(.seconds(3)), .send("250 taken\r\n"), .serve([])])
        let relay = try world.relay { $0.attemptTimeout = .milliseconds(500) }
        let outcomes = await relay.attempt(Delivery(to: ["one@a.test"]))
        #expect(outcomes.map(\.result) == [.delivered])
        #expect(slow.contents.count == 1)
        await world.end()
    }
}
