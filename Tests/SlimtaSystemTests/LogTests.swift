// Log lines: one line per event, whatever is in it.

import Foundation
import Glibc
import Logging
import Testing

@testable import SlimtaSystem

private func event(_ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata = [:]) -> LogEvent {
    LogEvent(
        level: level, message: "\(message)", metadata: metadata, source: "t", file: "f", function: "g", line: 1)
}

private func line(
    _ event: LogEvent, style: LineLogHandler.Style = .plain, logger: Logger.Metadata = [:],
    provider: Logger.MetadataProvider? = nil
) -> String {
    let line = LineLogHandler.line(
        event, LogFields(event, logger: logger, provider: provider), style: style, seconds: 1_769_903_999,
        milliseconds: 7)
    return String(decoding: line, as: UTF8.self)
}

@Suite struct LogLineTests {
    @Test func storyComesFirstInItsOrder() {
        let event = event(
            .info, "accepted",
            [
                "zeta": "1", "delay": "0.1", "queue_id": "abc", "alpha": "2", "recipient": "r@example.com",
                "sender": "<>",
            ])
        #expect(
            line(event, logger: ["session": "s1", "alpha": "hidden"])
                == "2026-01-31T23:59:59.007Z info accepted session=s1 queue_id=abc sender=<> "
                + "recipient=r@example.com delay=0.1 alpha=2 zeta=1\n")
    }

    @Test func providerAndErrorAreFields() {
        struct Trouble: Error, CustomStringConvertible { var description: String { "no \"luck\"" } }
        var event = event(.error, "failed", ["b": "event"])
        event.error = Trouble()
        let provider = Logger.MetadataProvider { ["a": "provider", "b": "provider", "c": "provider"] }
        #expect(
            line(event, logger: ["c": "logger"], provider: provider)
                == #"2026-01-31T23:59:59.007Z error failed a=provider b=event c=logger error="no \"luck\"""# + "\n")
    }

    @Test func styles() {
        let event = event(.warning, "m", ["k": "v"])
        #expect(line(event, style: .journal) == "<4>m k=v\n")
        #expect(line(event, style: .bare) == "m k=v\n")
        #expect(line(event, style: .terminal) == "2026-01-31T23:59:59.007Z \u{1B}[33mwarning\u{1B}[0m m k=v\n")
    }

    @Test(arguments: [
        ("plain", "plain"), ("", #""""#), ("two words", #""two words""#), ("a=b", #""a=b""#), (#"a"b"#, #""a\"b""#),
        (#"a\b"#, #""a\\b""#), ("a\nb", #""a\nb""#), ("a\r\nb", #""a\r\nb""#), ("\t", #""\t""#),
        ("\u{1B}[31m", #""\x1b[31m""#),
        ("\0", #""\x00""#), ("\u{7F}", #""\x7f""#), ("\u{9B}31m", #""\u009b31m""#), ("\u{85}", #""\u0085""#),
        ("\u{2028}x", #""\u2028x""#), ("\u{202E}txt.exe", #""\u202etxt.exe""#), ("\u{FEFF}", #""\ufeff""#),
        ("grün 😀", "\"grün 😀\""), ("grün", "\"grün\""), ("[2001:db8::1]:25", "[2001:db8::1]:25"),
    ])
    func values(value: String, shown: String) {
        #expect(line(event(.info, "m", ["k": .string(value)])) == "2026-01-31T23:59:59.007Z info m k=\(shown)\n")
    }

    @Test func messagesAndKeysBeginNoLineAndNoField() {
        #expect(
            line(event(.info, "a\n2026-01-01T00:00:00.000Z info forged \u{1B}[2J", ["k v\n=": "1"]))
                == #"2026-01-31T23:59:59.007Z info a\n2026-01-01T00:00:00.000Z info forged \x1b[2J k_v__=1"# + "\n")
    }

    /// Whatever the text, there is one line feed, at the end, and no octet that a terminal obeys.
    @Test func randomText() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<500 {
            let text = String(decoding: (0..<40).map { _ in UInt8.random(in: 0...255, using: &random) }, as: UTF8.self)
            let line = line(event(.info, text, ["k": .string(text), "l": .array([.string(text)])]))
            #expect(line.unicodeScalars.filter { $0.value < 0x20 || (0x7F..<0xA0).contains($0.value) } == ["\n"])
            #expect(line.last == "\n")
        }
    }

    @Test(arguments: [
        (0, "1970-01-01T00:00:00.000Z"), (951_782_400, "2000-02-29T00:00:00.000Z"),
        (4_107_542_399, "2100-02-28T23:59:59.000Z"),
    ])
    func time(seconds: Int, shown: String) {
        var line: [UInt8] = []
        LogTime.append(seconds: seconds, milliseconds: 0, to: &line)
        #expect(String(decoding: line, as: UTF8.self) == shown)
    }
}

@Suite struct LogHandlerTests {
    @Test func writesToItsDescriptor() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let level = SharedLogLevel(.info)
        let handler = LineLogHandler(level: level, sink: .writer(LogWriter(ends[1])), style: .plain)
        var logger = Logger(label: "t") { _ in handler }
        logger[metadataKey: "session"] = "s"
        logger.debug("hidden")
        logger.info("shown", metadata: ["queue_id": "q"])
        level.level = .debug  // reload
        logger.debug("now shown")
        var other = logger
        other.logLevel = .error
        other.info("hidden")
        logger.debug("still shown")
        close(ends[1])
        let lines = drain(ends[0]).split(separator: "\n").map { $0.drop { $0 != " " }.dropFirst() }
        #expect(
            lines == ["info shown session=s queue_id=q", "debug now shown session=s", "debug still shown session=s"])
        close(ends[0])
    }

    @Test func aThreadWritesAllLinesWhole() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let (reader, descriptor) = (ends[0], ends[1])
        let writer = LogWriter(descriptor)
        try writer.start()
        // More than the pipe and the writer hold: who logs has to wait for the reader.
        let padding = String(repeating: "x", count: 200)
        for logger in 0..<4 {
            Thread.detachNewThread {
                for line in 0..<4000 { writer.write(Array("\(logger) \(line) \(padding)\n".utf8), isUrgent: false) }
            }
        }
        let text = drain(reader, lines: 16000)
        var next = [0, 0, 0, 0]
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            try #require(words.count == 3 && words[2] == padding)
            let (logger, number) = (try #require(Int(words[0])), try #require(Int(words[1])))
            #expect(number == next[logger])
            next[logger] += 1
        }
        #expect(next == [4000, 4000, 4000, 4000])
        close(reader)
    }

    @Test func whatIsLoggedBeforeTheExitIsWritten() async {
        let result = await #expect(processExitsWith: .exitCode(3), observing: [\.standardErrorContent]) {
            LogHandlers.install(target: .standardError, level: .info)
            try LogHandlers.startThread()
            let logger = Logger(label: "t")
            for number in 0..<1000 { logger.info("line", metadata: ["number": "\(number)"]) }
            exit(3)
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.split(separator: "\n").filter { $0.contains("info line number=") }.count == 1000)
        #expect(said.contains("number=999\n"))
    }

    @Test func installs() async {
        let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
            unsetenv("JOURNAL_STREAM")
            let level = LogHandlers.install(target: .auto, level: .warning)
            let logger = Logger(label: "t")
            logger.info("hidden")
            logger.warning("first")
            level.level = .info
            logger.info("second")
        }
        let said = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains(" warning first\n"))
        #expect(said.contains(" info second\n"))
        #expect(!said.contains("hidden"))
    }

    @Test(
        arguments: [
            // target, daemonized, journal there, started by systemd
            (.auto, false, true, false, .standardError), (.auto, false, true, true, .journal),
            (.auto, true, true, false, .journal), (.auto, true, false, false, .syslog),
            (.auto, false, false, true, .standardError), (.journal, false, true, false, .journal),
            (.journal, false, false, false, .standardError), (.journal, true, false, false, .syslog),
            (.standardError, true, true, true, .standardError),
        ] as [(LogTarget, Bool, Bool, Bool, LogHandlers.Sink)])
    func target(target: LogTarget, isDaemonized: Bool, hasJournal: Bool, isStarted: Bool, sink: LogHandlers.Sink) {
        #expect(
            LogHandlers.sink(target, isDaemonized: isDaemonized, hasJournal: hasJournal, isStarted: isStarted) == sink)
    }

    @Test func journalStreamIsRecognised() async {
        await #expect(processExitsWith: .success) {
            var ends: [Int32] = [0, 0]
            #expect(pipe(&ends) == 0)
            var status = stat()
            fstat(ends[1], &status)
            unsetenv("JOURNAL_STREAM")
            #expect(!LogHandlers.isJournal(ends[1]))
            setenv("JOURNAL_STREAM", "\(status.st_dev):\(status.st_ino)", 1)
            #expect(LogHandlers.isJournal(ends[1]))
            #expect(!LogHandlers.isJournal(STDERR_FILENO))  // inherited by a child whose output went elsewhere
        }
    }

    @Test func journalFields() {
        let event = event(.error, "bad\nthing", ["queue_id": "q", "tls": "TLSv1.3 X", "we-ird key": "a\nb"])
        let entries = JournalLogHandler.entries(event, LogFields(event, logger: ["session": "s"], provider: nil))
        #expect(
            entries.map { String(decoding: $0, as: UTF8.self) } == [
                #"MESSAGE=bad\nthing session=s queue_id=q tls="TLSv1.3 X" we-ird_key="a\nb""#, "PRIORITY=3",
                "SYSLOG_FACILITY=2",
                "SLIMTA_SESSION=s", "SLIMTA_QUEUE_ID=q", "SLIMTA_TLS=TLSv1.3 X", #"SLIMTA_WE_IRD_KEY=a\nb"#,
            ])
        // With a journal or without one, nothing is thrown and nothing ends.
        JournalLogHandler(level: SharedLogLevel(.info)).log(event: event)
        LineLogHandler(level: SharedLogLevel(.info), sink: .syslog, style: .bare).log(event: event)
    }

    @Test func journalNamesAreShortEnough() throws {
        let event = event(.info, "m", [String(repeating: "k", count: 100): "v"])
        let entry = try #require(JournalLogHandler.entries(event, LogFields(event, logger: [:], provider: nil)).last)
        #expect(entry.prefix { $0 != UInt8(ascii: "=") }.count == 64)
    }
}
