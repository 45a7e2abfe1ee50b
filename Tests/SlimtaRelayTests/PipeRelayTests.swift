// The relay of type "pipe" with the real helper, in a thread of this process, and real commands.

import Foundation
import NIOCore
import NIOPosix
import SlimtaMail
import SlimtaNet
import SlimtaPipe
import SlimtaQueue
import Testing

@testable import SlimtaRelay

/// A helper that runs everything, as we are, until it is let go of.
private final class Helper {
    let folder: String
    private let lifeline: Int32
    private let thread: Thread

    init() throws {
        let folder = try Fixture.folder()
        self.folder = folder
        let listener = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        let bound = withUnixSocketAddress(of: folder + "/helper") { bind(listener, $0, $1) }
        try #require(bound == 0 && listen(listener, 100) == 0)
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        lifeline = ends[1]
        let reader = ends[0]
        thread = Thread {
            let own = PipeAccount(name: "me", home: "/", uid: getuid(), gid: getgid(), groups: [])
            let helper = PipeHelper(
                listener: listener, lifeline: reader, limit: 200, mayAsk: { $0 == getuid() },
                judge: { $0.user == nil ? .run(own, changing: false) : .refuse("not as \($0.user ?? "")") })
            helper.run()
            close(listener)
            close(reader)
        }
        thread.start()
    }

    deinit {
        close(lifeline)
        Fixture.removeFolder(folder)
    }

    func relay(_ script: String, processes: Int = 10, timeout: Duration = .seconds(30), user: String? = nil) throws
        -> PipeRelay
    {
        let command = try CommandTemplate(["/bin/sh", "-c", script, "sh", "{user}", folder])
        let settings = PipeRelay.Settings(
            command: command, environment: CommandTemplate(), user: user, processes: processes, timeout: timeout,
            endsLinesWithLF: true)
        return PipeRelay(
            settings, helper: folder + "/helper", folder: folder, threads: MaildirRelayTests.threads,
            group: Fixture.group, logger: Fixture.logger)
    }

    func content(_ name: String) -> String { Fixture.read("\(folder)/\(name)") }
}

@Suite(.timeLimit(.minutes(4)))
struct PipeRelayTests {
    @Test func theMessageAsTheCommandGetsIt() async throws {
        let helper = try Helper()
        let relay = try helper.relay("cat >\"$2/$1\"; echo \"$SENDER $RECIPIENT\" >>\"$2/$1\"; echo fine")
        let rest = (0..<5).map { ByteBuffer(string: String(repeating: "\($0)", count: 99_999) + "\r\n") }
        let delivery = Delivery("Subject: x\r\n\r\n.\r\n", to: ["a+x@x.test", "b@x.test"], rest: SpooledOctets(rest))
        let outcomes = await relay.attempt(delivery)
        #expect(outcomes.map(\.reply.description) == Array(repeating: "250 2.0.0 delivered fine", count: 2))
        #expect(outcomes[0].relay == "pipe:/bin/sh")
        let body = rest.map { String(buffer: $0) }.joined().replacing("\r\n", with: "\n")
        #expect(
            helper.content("a") == "Return-Path: <sender@client.test>\nDelivered-To: a+x@x.test\nReceived: here\n"
                + "Subject: x\n\n.\n\(body)sender@client.test a+x@x.test\n")
        #expect(helper.content("b").contains("Delivered-To: b@x.test\n"))
        #expect(relay.complaint == nil)
    }

    /// What one command does concerns no other that is the same program.
    @Test func oneDestinationForEachCommand() throws {
        let helper = try Helper()
        func destination(_ script: String, user: String? = nil) throws -> String {
            try helper.relay(script, user: user).destination(for: "x.test")
        }
        #expect(try destination("a\n") == "pipe:/bin/sh -c a\\x0a sh {user} \(helper.folder)")
        #expect(try destination("a") == destination("a"))
        #expect(try destination("a", user: "m") == "pipe:/bin/sh -c a sh {user} \(helper.folder) (m)")
    }

    @Test(arguments: [
        ("exit 67", "550 5.1.1"), ("echo 4.2.2 full; exit 69", "451 4.2.2"), ("kill -9 $$", "451 4.3.0"),
        ("exec 0<&-; exit 0", "250 2.0.0"), ("head -c 3000000 /dev/zero; exit 1", "554 5.3.0"),
        ("sleep 300 & exit 0", "250 2.0.0"),
    ])
    func ends(_ script: String, _ reply: String) async throws {
        let helper = try Helper()
        let outcomes = try await helper.relay(script, timeout: .seconds(200)).attempt(Delivery(to: ["a@x.test"]))
        #expect(outcomes[0].reply.description.hasPrefix(reply), "\(outcomes[0].reply)")
    }

    @Test func whatTakesTooLongIsEnded() async throws {
        let helper = try Helper()
        let outcomes = try await helper.relay("sleep 300", timeout: .milliseconds(100)).attempt(
            Delivery(to: ["a@x.test"]))
        #expect(outcomes[0].reply.description == "451 4.3.0 the command took too long and was ended")
    }

    @Test func noMoreAtOnceThanMayBe() async throws {
        let helper = try Helper()
        // The first two wait for each other, however busy the machine is.
        let relay = try helper.relay(
            "echo + >>$2/log; until [ $(grep -c + $2/log) -ge 2 ]; do sleep 0.01; done; sleep 0.1; echo - >>$2/log",
            processes: 2)
        let outcomes = await relay.attempt(Delivery(to: (0..<6).map { "r\($0)@x.test" }))
        #expect(outcomes.allSatisfy { $0.result == .delivered })
        var (running, most) = (0, 0)
        for line in helper.content("log").split(separator: "\n") {
            running += line == "+" ? 1 : -1
            most = max(most, running)
        }
        #expect(most == 2 && running == 0)
    }

    @Test func anAttemptThatIsBrokenOffEndsTheCommand() async throws {
        let helper = try Helper()
        let relay = try helper.relay("echo $$ >$2/pid; exec sleep 60", processes: 1)
        let task = Task { await relay.attempt(Delivery(to: ["a@x.test", "b@x.test"])) }
        while helper.content("pid").isEmpty { try await Task.sleep(for: .milliseconds(10)) }
        let pid = try #require(Int32(helper.content("pid").filter(\.isNumber)))
        task.cancel()
        #expect(await task.value.allSatisfy { $0.result == .temporary })
        while kill(pid, 0) == 0 { try await Task.sleep(for: .milliseconds(10)) }
    }

    @Test func whatIsRefusedBeforeAnythingRuns() async throws {
        let helper = try Helper()
        let relay = try helper.relay("echo ran >$2/ran")
        for recipient in ["-rf@x.test", "a\r\nb@x.test"] {
            let outcome = await relay.attempt(Delivery(to: [recipient]))[0]
            #expect(outcome.result == .permanent && outcome.reply.status == EnhancedStatus(5, 1, 3))
        }
        for fields in ["Delivered-To: A@X.TEST\r\n", "delivered-to:\r\n\ta@x.test\r\n"] {
            let outcome = await relay.attempt(Delivery(to: ["a@x.test"], fields: fields))[0]
            #expect(outcome.result == .permanent && outcome.reply.status == EnhancedStatus(5, 4, 6))
        }
        #expect(helper.content("ran").isEmpty)
    }

    @Test func whatCannotBeRunIsForTheOperator() async throws {
        let helper = try Helper()
        let refused = try helper.relay("exit 0", user: "root")
        let outcome = await refused.attempt(Delivery(to: ["a@x.test"]))[0]
        #expect(outcome.reply.description == "451 4.3.5 not as root" && outcome.isHostFailure)
        #expect(refused.complaint?.contains("not as root") == true)
        let nowhere = PipeRelay(
            .init(
                command: try CommandTemplate(["/bin/true"]), environment: CommandTemplate(), user: nil, processes: 1,
                timeout: .seconds(1), endsLinesWithLF: true),
            helper: helper.folder + "/nobody", folder: helper.folder, threads: MaildirRelayTests.threads,
            group: Fixture.group, logger: Fixture.logger)
        let lost = await nowhere.attempt(Delivery(to: ["a@x.test"]))[0]
        #expect(lost.reply.status == EnhancedStatus(4, 3, 5) && lost.isHostFailure)
    }
}
