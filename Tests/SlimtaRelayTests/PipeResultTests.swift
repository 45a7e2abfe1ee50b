// What ends of commands mean: every exit status, every signal, and outputs.

import SlimtaMail
import SlimtaPipe
import Testing

@testable import SlimtaRelay

@Suite struct PipeResultTests {
    private func outcome(_ end: PipeAnswer.End, _ output: String = "") -> Outcome {
        PipeResult(relay: "pipe:/bin/x").outcome(PipeAnswer(end, output: Array(output.utf8)))
    }

    /// The table of edges: those that are not here are 5.3.0.
    private static let special: [Int32: String] = [
        0: "2.0.0", 65: "5.6.0", 67: "5.1.1", 68: "5.1.2", 71: "4.3.0", 72: "4.3.5", 73: "5.2.0", 74: "4.3.5",
        75: "4.3.0", 76: "5.5.0", 77: "5.7.0", 78: "4.3.5", 126: "4.3.5", 127: "4.3.5",
    ]

    @Test func everyStatus() {
        for status in 0...255 as ClosedRange<Int32> {
            let outcome = outcome(.exited(status))
            #expect(outcome.reply.status?.description == Self.special[status] ?? "5.3.0", "\(status)")
            #expect(outcome.result == Outcome.result(of: outcome.reply))
            #expect(UInt16(outcome.reply.status?.statusClass ?? 0) == outcome.reply.code / 100)
            #expect(outcome.relay == "pipe:/bin/x")
            // What holds for the command and no recipient of it.
            #expect(outcome.isHostFailure == (status == 126 || status == 127))
            #expect(status == 0 || outcome.reply.text.contains("exit status \(status)"))
        }
    }

    @Test func everySignal() {
        for signal in 1...64 as ClosedRange<Int32> {
            let outcome = outcome(.signalled(signal), "5.1.1 not what decides")
            #expect(outcome.result == .temporary)
            #expect(outcome.reply.status == EnhancedStatus(4, 3, 0))
            #expect(outcome.reply.text.contains("signal \(signal)"))
        }
        #expect(outcome(.timedOut).reply.status == EnhancedStatus(4, 3, 0))
        #expect(outcome(.notStarted("no such user")).reply.description == "451 4.3.5 no such user")
        #expect(outcome(.notStarted("no such user")).isHostFailure)
    }

    @Test(arguments: [
        (69, "4.2.2 over quota", "451 4.2.2 over quota"),
        (75, "5.2.2 over quota\nsince yesterday\n", "554 5.2.2 over quota since yesterday"),
        (67, "5.1.6 moved", "550 5.1.6 moved"),
        (127, "5.1.1 no", "550 5.1.1 no"),
        (67, "5.1.6", "550 5.1.6 the command does not know the recipient (exit status 67)"),
        (67, "2.0.0 fine", "550 5.1.1 the command does not know the recipient (exit status 67) 2.0.0 fine"),
        (1, "out\r\n\n\terr  line\n", "554 5.3.0 the command failed (exit status 1) out err line"),
        (1, "5.1 x", "554 5.3.0 the command failed (exit status 1) 5.1 x"),
        (0, "5.1.1 said and delivered", "250 2.0.0 delivered 5.1.1 said and delivered"),
        (1, "\u{1B}[31mred\u{0}", "554 5.3.0 the command failed (exit status 1) \\x1b[31mred\\x00"),
    ])
    func outputs(_ status: Int32, _ output: String, _ reply: String) {
        #expect(outcome(.exited(status), output).reply.description == reply)
    }

    @Test func outputIsTextOfBoundedLength() {
        let wild = (0..<8192).map { UInt8(truncatingIfNeeded: $0 &* 37) }
        let lines = PipeResult.lines(of: wild)
        #expect(lines.allSatisfy { $0.isVisible && !$0.isEmpty })
        #expect(lines.reduce(0) { $0 + $1.utf8.count } <= PipeAnswer.outputLimit)
        #expect(PipeResult.lines(of: []).isEmpty)
    }
}

@Suite struct LineFeedsTests {
    private func converted(_ chunks: [String]) -> String {
        var (lines, result) = (LineFeeds(), [UInt8]())
        for chunk in chunks { Array(chunk.utf8).withUnsafeBytes { lines.convert($0, into: &result) } }
        lines.convert(UnsafeRawBufferPointer(start: nil, count: 0), isEnd: true, into: &result)
        return String(decoding: result, as: UTF8.self)
    }

    @Test(arguments: [
        ("a\r\nb\r\n", "a\nb\n"), ("", ""), ("\r\n\r\n", "\n\n"), ("a\rb", "a\rb"), ("a\r\r\n", "a\r\n"),
        ("a\r", "a\r"),
        (".\r\n..\r\n", ".\n..\n"), ("a\nb", "a\nb"), ("\r\r", "\r\r"),
    ])
    func inAnyPieces(_ text: String, _ wanted: String) {
        let octets = Array(text.utf8)
        for cut in 0...octets.count {
            let parts = [octets[..<cut], octets[cut...]].map { String(decoding: $0, as: UTF8.self) }
            #expect(converted(parts) == wanted)
        }
    }
}
