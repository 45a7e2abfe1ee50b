// The rules for a command that runs: when it is told to end, when it is killed, what is answered.

import SlimtaMail
import Testing

@testable import SlimtaPipe

@Suite struct PipeRunTests {
    private static func answer(_ end: PipeAnswer.End, _ output: String = "") -> PipeRun.Action {
        .finish(PipeAnswer(end, output: Array(output.utf8)))
    }

    @Test func exitAndOutputInEitherOrder() {
        var run = PipeRun(timeout: 1000, 0)
        run.wrote("a".utf8)
        #expect(run.outputEnded().isEmpty)
        #expect(run.exited(.status(67), 10) == [Self.answer(.exited(67), "a")])
        #expect(run.nextDue == nil)

        run = PipeRun(timeout: 1000, 0)
        #expect(run.exited(.signal(11), 10).isEmpty)
        run.wrote("late".utf8)
        #expect(run.outputEnded() == [Self.answer(.signalled(11), "late")])
    }

    @Test func whoHoldsTheOutputIsNotWaitedFor() {
        var run = PipeRun(timeout: 10_000, 0)
        #expect(run.exited(.status(0), 500).isEmpty)
        #expect(run.nextDue == 1500)
        #expect(run.timePassed(1499).isEmpty)
        run.wrote("x".utf8)
        #expect(run.timePassed(1500) == [Self.answer(.exited(0), "x")])
        #expect(run.timePassed(9999).isEmpty)
    }

    @Test func tooLong() {
        var run = PipeRun(timeout: 1000, 5)
        #expect(run.nextDue == 1005)
        #expect(run.timePassed(1004).isEmpty)
        #expect(run.timePassed(1005) == [.terminate])
        #expect(run.nextDue == 6005)
        // It ends by SIGTERM: whatever it says of itself, and whoever of its group does not, the group is gone.
        var heeds = run
        #expect(heeds.exited(.status(0), 1100) == [.kill, Self.answer(.timedOut)])
        #expect(heeds.outputEnded().isEmpty)
        // It does not.
        #expect(run.timePassed(6005) == [.kill])
        #expect(run.nextDue == nil)
        #expect(run.exited(.signal(9), 6006) == [.kill, Self.answer(.timedOut)])
    }

    @Test func nobodyWaits() {
        var run = PipeRun(timeout: 1000, 0)
        #expect(run.abandoned(100) == [.terminate])
        #expect(run.abandoned(101).isEmpty)
        #expect(run.timePassed(5100) == [.kill])
        // Where it has ended, and only its output is waited for, that is not waited for any more.
        run = PipeRun(timeout: 1000, 0)
        #expect(run.exited(.status(0), 50).isEmpty)
        #expect(run.abandoned(60) == [Self.answer(.exited(0))])
    }

    @Test func aFloodIsCut() {
        var run = PipeRun(timeout: 1000, 0)
        for _ in 0..<100 { run.wrote(repeatElement(0x61, count: 1000)) }
        _ = run.outputEnded()
        guard case .finish(let answer) = run.exited(.status(1), 1).first else { return #expect(Bool(false)) }
        #expect(answer.output.count == PipeAnswer.outputLimit)
    }
}

@Suite struct PipeCodecTests {
    private let pipe = PipeRequest.Pipe(
        command: ["/usr/lib/x", "-d", "{user}"], environment: ["A={domain}"], user: "mail", timeout: 300_000)
    private let values = CommandValues(["a@b", "c+d@e", "c", "e", "d", "0"])!

    @Test func aRequestIsReadAsItWasWritten() throws {
        for user in ["mail", nil] {
            var pipe = pipe
            pipe.user = user
            let request = PipeRequest(pipe, values)
            let octets = try #require(request.octets)
            #expect(PipeRequest.read(octets) == .request(request))
            for count in 0..<octets.count { #expect(PipeRequest.read(Array(octets[..<count])) == .more) }
            #expect(PipeRequest.read(octets + [0]) == .malformed)
            // No octet that is another one makes the helper end.
            for index in octets.indices {
                var other = octets
                other[index] ^= 0xFF
                #expect(PipeRequest.read(other) != .request(request))
            }
        }
    }

    @Test func whatIsTooLongIsNotSent() {
        var pipe = pipe
        pipe.command.append(String(repeating: "x", count: PipeRequest.limit))
        #expect(PipeRequest(pipe, values).octets == nil)
        #expect(PipeRequest.read([0xFF, 0xFF, 0xFF, 0xFF]) == .malformed)
    }

    @Test func answers() {
        let ends: [PipeAnswer.End] = [.exited(0), .exited(255), .signalled(9), .timedOut]
        for end in ends {
            let answer = PipeAnswer(end, output: [0, 0xFF, 10])
            #expect(PipeAnswer(answer.octets) == answer)
        }
        let answer = PipeAnswer(.notStarted("no such user"))
        #expect(PipeAnswer(answer.octets) == answer)
        for octets in [[], [1], [1, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0, 0]] as [[UInt8]] {
            #expect(PipeAnswer(octets) == nil)
        }
    }
}
