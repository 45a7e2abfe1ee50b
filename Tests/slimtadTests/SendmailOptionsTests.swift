// The command line of sendmail: as programs write it (recorded), and as nobody should.

import Testing

@testable import slimtad

@Suite struct SendmailOptionsTests {
    private static func parse(_ words: String..., as name: String = "sendmail") -> SendmailOptions? {
        try? SendmailOptions(calledAs: name, words)
    }

    /// What programs of Debian say.
    static let programs: [(name: String, words: [String], expected: @Sendable (inout SendmailOptions) -> Void)] = [
        (
            "cron", ["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"],
            { ($0.fullName, $0.ignoresDots, $0.mailsErrors, $0.addresses) = ("CronDaemon", true, true, ["root"]) }
        ),
        ("cronie", ["-f", "<>", "-i", "a@b"], { ($0.sender, $0.ignoresDots, $0.addresses) = ("<>", true, ["a@b"]) }),
        ("anacron", ["-FAnacron", "-odi", "root"], { ($0.fullName, $0.addresses) = ("Anacron", ["root"]) }),
        ("at", ["root"], { $0.addresses = ["root"] }),
        (
            "PHP", ["-t", "-i", "-fa@b"],
            { ($0.readsRecipients, $0.ignoresDots, $0.sender) = (true, true, "a@b") }
        ),
        ("git", ["-i", "a@b", "c@d"], { ($0.ignoresDots, $0.addresses) = (true, ["a@b", "c@d"]) }),
        (
            "git with an envelope sender", ["-f", "e@f", "-i", "a@b"],
            { ($0.sender, $0.ignoresDots, $0.addresses) = ("e@f", true, ["a@b"]) }
        ),
        (
            "mutt", ["-oem", "-oi", "-f", "e@f", "-N", "failure,delay", "-R", "hdrs", "--", "a@b", "c@d"],
            { ($0.mailsErrors, $0.ignoresDots, $0.sender, $0.addresses) = (true, true, "e@f", ["a@b", "c@d"]) }
        ),
        (
            "s-nail", ["-i", "-f", "e@f", "--", "a@b"],
            { ($0.ignoresDots, $0.sender, $0.addresses) = (true, "e@f", ["a@b"]) }
        ),
        ("mdadm", ["-t"], { $0.readsRecipients = true }),
        ("unattended-upgrades", ["-oi", "-t"], { ($0.ignoresDots, $0.readsRecipients) = (true, true) }),
        (
            "Rails of old", ["-i", "-t", "a@b"],
            { ($0.ignoresDots, $0.readsRecipients, $0.addresses) = (true, true, ["a@b"]) }
        ),
        ("Alpine", ["-bs", "-odb", "-oem"], { ($0.mode, $0.mailsErrors) = (.session, true) }),
    ]

    @Test(arguments: programs.indices) func program(_ index: Int) throws {
        let program = Self.programs[index]
        var expected = try #require(Self.parse())
        program.expected(&expected)
        #expect(try SendmailOptions(calledAs: "sendmail", program.words) == expected, "\(program.name)")
    }

    @Test func grammar() throws {
        // letters join, and what takes an argument takes the rest of the word, or the next
        #expect(Self.parse("-ti") == Self.parse("-t", "-i"))
        #expect(Self.parse("-tif", "a@b") == Self.parse("-t", "-i", "-fa@b"))
        #expect(Self.parse("-o", "i", "-o", "em") == Self.parse("-oi", "-oem"))
        #expect(Self.parse("-oee")?.mailsErrors == true)
        for word in ["-oep", "-oeq", "-oew", "-od", "-odq", "-oA/x", "-o7", "-om"] {
            #expect(Self.parse(word) == Self.parse(), "\(word)")
        }
        #expect(Self.parse("-em") == Self.parse("-oem"))
        #expect(Self.parse("-r", "a@b")?.sender == "a@b")
        #expect(Self.parse("-f", "")?.sender == "")
        #expect(Self.parse("-F", "Some One")?.fullName == "Some One")
        // options may follow addresses, and not "--"
        #expect(Self.parse("a@b", "-t", "c@d", "-i") == Self.parse("-ti", "a@b", "c@d"))
        #expect(Self.parse("--", "-t", "--", "a@b")?.addresses == ["-t", "--", "a@b"])
        #expect(Self.parse("-")?.addresses == ["-"])
        // the argument of -q is joined or none
        for word in ["-q", "-q15m", "-q1h30m", "-qf"] { #expect(Self.parse(word)?.mode == .flush, "\(word)") }
        #expect(Self.parse("-q", "15m")?.addresses == ["15m"])
        #expect(Self.parse("-v")?.isVerbose == true)
        #expect(Self.parse("-bm")?.mode == .deliver)
        #expect(Self.parse("-b", "p")?.mode == .list)
        #expect(Self.parse("-bi")?.mode == .aliases)
        #expect(Self.parse("-I")?.mode == .aliases)
        #expect(Self.parse(as: "mailq")?.mode == .list)
        #expect(Self.parse("-v", as: "newaliases")?.mode == .aliases)
        #expect(Self.parse("--config", "/x", "-t")?.configuration == "/x")
        #expect(Self.parse("--config=/x")?.configuration == "/x")
    }

    /// Taken with their arguments, and of no effect.
    @Test(arguments: [
        ["-G"], ["-U"], ["-m"], ["-n"], ["-d"], ["-d0.1"], ["-h", "5"], ["-h5"], ["-L", "x"], ["-A", "c"], ["-Ac"],
        ["-X", "/tmp/x"], ["-O", "Timeout=5m"], ["-OTimeout=5m"], ["-p", "SMTP:host"], ["-V", "id"], ["-B", "7BIT"],
        ["-B8bitmime"], ["-N", "never"], ["-Nsuccess,failure,delay"], ["-R", "FULL"], ["-Rhdrs"], ["-GUmn"],
    ]) func ignored(_ words: [String]) throws {
        #expect(try SendmailOptions(calledAs: "sendmail", words + ["a@b"]) == Self.parse("a@b"))
    }

    static let bad: [([String], String)] = [
        (["-Z"], "-Z"), (["-tZ"], "-Z"), (["-C", "/x"], "-C"), (["-C/x"], "-C"), (["-D", "x=y"], "-D"),
        (["-be"], "-be"),
        (["-bt"], "-bt"), (["-bd"], "-bd"), (["-f"], "-f needs"), (["-t", "-o"], "-o needs"),
        (["-B", "9BIT"], "-B 9BIT"),
        (["-N", "never,delay"], "-N"), (["-N", "sometimes"], "-N"), (["-N", "failure,"], "-N"),
        (["-R", "half"], "-R half"),
        (["-qRexample.com"], "-qRexample.com"), (["--help"], "--help"), (["--config"], "--config"),
        (["--config="], "--config="),
        (["-\u{FC}"], "-\u{FC}"),
    ]

    /// 64, and the option is named.
    @Test(arguments: bad) func isRefused(_ words: [String], _ named: String) {
        do {
            let options = try SendmailOptions(calledAs: "sendmail", words)
            Issue.record("\(options)")
        } catch {
            #expect(error.text.contains(named), "\(error.text)")
        }
    }
}
