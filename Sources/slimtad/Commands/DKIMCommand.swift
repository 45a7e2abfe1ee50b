// `slimtad dkim generate|show|check|rotate`: the keys that mail is signed with, and what DNS has of them. By the running daemon,
// or, where none runs, with the files that it will read.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaMail
import SlimtaNet
import SlimtaSystem

struct DKIMCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dkim", abstract: "Make and show the keys that mail is signed with, and compare DNS with them.",
        discussion: """
            For which domains mail is signed is in [[dkim]] of slimta.conf. A key signs when DNS has shown its record for an \
            hour, or for as long as others may remember that it was not there. All of it works without a running daemon, too; \
            states of keys are the daemon's.
            """,
        subcommands: [Generate.self, Show.self, Check.self, Rotate.self], defaultSubcommand: Show.self)

    /// What all of them take.
    struct Options: ParsableArguments {
        @OptionGroup var config: ConfigurationOption

        @Flag(help: "Print a JSON object.")
        var json = false
    }

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "generate", abstract: "Make the first keys of domains, and print the records for DNS.",
            discussion: """
                Without a domain, all keys that [[dkim]] of slimta.conf needs and that are not there. What is printed can stand \
                in a zone file. Exit status 1: a key is there already; it is never replaced.
                """)

        @OptionGroup var options: Options
        @OptionGroup var which: Which

        func run() { DKIMCommand.make(which, isNext: false, options) }
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate", abstract: "Make the next keys of a domain, and print the records for DNS.",
            discussion: """
                The daemon changes over by itself when DNS has shown the record for long enough; until then the old key signs. \
                slimtad dkim show and the log say when the old record may be removed: not before. Exit status 1: the domain has \
                no key yet, or its next one waits for DNS already.
                """)

        @OptionGroup var options: Options
        @OptionGroup var which: Which

        func run() { DKIMCommand.make(which, isNext: true, options) }
    }

    /// Which keys are made.
    struct Which: ParsableArguments {
        @Argument(help: "Whose keys.")
        var domains: [String] = []

        @Option(help: "Only the keys for this: rsa-sha256, ed25519-sha256.")
        var algorithm: String?

        @Option(help: "What the key is called, instead of r2026a and the like: a name that was never used.")
        var selector: String?
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Show keys, their states, and the records that DNS has to have.",
            discussion: """
                A key is made, then seen in DNS, active when that has lasted, retiring when a newer one is active, old when \
                nothing that it has signed is under way; or failing, while its record is wrong. What is printed can stand in a \
                zone file.
                """)

        @OptionGroup var options: Options

        @Argument(help: "Only the keys of this domain.")
        var domain: String?

        func run() {
            orExit { () throws(Failure) in
                let file = try ConfigurationFile.find(options.config.path)
                let query = domain.map { [HTTPTarget.Parameter("domain", $0)] } ?? []
                let answer: JSON
                if let daemon = try RunningDaemon.connect(file) {
                    answer = try daemon.ask(.get, ["dkim"], query)
                } else {
                    answer = .signing(try OfflineKeys(file).report().of(domain?.foldedAsDomain()))
                }
                if options.json { return print(answer.line) }
                for key in answer["keys"].elements {
                    DKIMCommand.tell(key)
                    print(key["zone_line"].text ?? "")
                }
                DKIMCommand.sayWhatIsMissing(answer, domain)
            }
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "check", abstract: "Ask DNS for the records of keys, and compare.",
            discussion: """
                The running daemon asks, and takes notice of the answers. Exit status 0: DNS has all records that are needed; \
                1: one is missing or wrong; 69: of one DNS does not say.
                """)

        @OptionGroup var options: Options

        @Argument(help: "Only the keys of this domain.")
        var domain: String?

        func run() {
            let status = orExit { () throws(Failure) -> Int32 in
                let file = try ConfigurationFile.find(options.config.path)
                let query = domain.map { [HTTPTarget.Parameter("domain", $0)] } ?? []
                let answer: JSON
                if let daemon = try RunningDaemon.connect(file) {
                    answer = try daemon.ask(.post, ["dkim", "check"], query)
                } else {
                    let keys = try OfflineKeys(file)
                    answer = .signing(try keys.check(domain?.foldedAsDomain()).of(domain?.foldedAsDomain()))
                }
                if options.json { print(answer.line) } else { DKIMCommand.tellRecords(answer) }
                DKIMCommand.sayWhatIsMissing(answer, domain)
                return DKIMCommand.status(answer)
            }
            if status != 0 { Glibc.exit(status) }
        }
    }
}

extension DKIMCommand {
    /// What is known of a key, as comments of a zone file.
    fileprivate static func tell(_ key: JSON) {
        let bits = key["algorithm"].text == DKIMAlgorithm.rsaSHA256.rawValue ? ", \(key["bits"].integer ?? 0) bits" : ""
        let state = key["state"].text.map { ", \($0) since \(key["since"].text ?? "")" } ?? ""
        let signs = key["signs"].isTrue ? ", signs" : ""
        print("; \(name(of: key)) \(key["algorithm"].text ?? "")\(bits)\(state)\(signs)")
        if let dns = key["dns"].text { print("; DNS: the record \(dns.visible)") }
        if let advice = key["advice"].text { print("; \(advice)") }
    }

    private static func name(of key: JSON) -> String { key["record_name"].text ?? "" }

    fileprivate static func tellRecords(_ answer: JSON) {
        for key in answer["keys"].elements {
            print("\(name(of: key)): the record \((key["dns"].text ?? "is not known").visible)")
        }
    }

    /// On standard error, so that what is printed stays as it is.
    fileprivate static func sayWhatIsMissing(_ answer: JSON, _ domain: String?) {
        if answer["keys"].elements.isEmpty {
            let whose = domain.map { " of \($0)" } ?? ""
            say("there are no keys\(whose): see [[dkim]] of slimta.conf, and slimtad dkim generate")
        }
        for domain in answer["domains"].elements where domain["mail"].text == "refused" {
            say(
                "mail from \(domain["name"].text ?? "") is refused until DNS has had the record of a key for long enough"
            )
        }
    }

    /// As the command ends.
    fileprivate static func status(_ answer: JSON) -> Int32 {
        var isSilent = false
        for key in answer["keys"].elements {
            guard let life = key["state"].text, life != "old" else { continue }
            if key["dns_unanswered"].isTrue { isSilent = true } else if !key["record_right"].isTrue { return 1 }
        }
        return isSilent ? ExitStatus.unavailable.rawValue : 0
    }

    // MARK: Making

    /// Makes keys, each by itself, and prints their records.
    fileprivate static func make(_ which: Which, isNext: Bool, _ options: Options) {
        let failures = orExit { () throws(Failure) -> Int in
            let file = try ConfigurationFile.find(options.config.path)
            let daemon = try RunningDaemon.connect(file)
            let wishes = try wishes(which, isNext: isNext, file)
            let maker: (SigningKeyWish) throws(Failure) -> Result<JSON, Failure>
            if let daemon {
                maker = { wish throws(Failure) in try make(wish, by: daemon) }
            } else {
                let keys = try OfflineKeys(file)
                maker = { wish throws(Failure) in try keys.make(wish) }
            }
            var made: [JSON] = []
            var failures = 0
            for wish in wishes {
                switch try maker(wish) {
                case .success(let key):
                    made.append(key)
                    if !options.json { tell(made: key, isNext: isNext, isRunning: daemon != nil) }
                case .failure(let failure):
                    // Who wants all that are missing wants no others.
                    if which.domains.isEmpty, !isNext { continue }
                    say(failure.message)
                    failures += 1
                }
            }
            if options.json { print(JSON.object([.init("keys", .array(made))]).line) }
            if made.isEmpty, failures == 0 { say("all keys of [[dkim]] are there: slimtad dkim show") }
            if daemon != nil, made.contains(where: { $0["state"].text == nil }) {
                say("the running daemon does not sign for all of these domains yet: slimtad reload")
            }
            return failures
        }
        if failures > 0 { Glibc.exit(1) }
    }

    private static func tell(made key: JSON, isNext: Bool, isRunning: Bool) {
        print("; \(name(of: key)) \(key["algorithm"].text ?? ""): publish this record")
        print(key["zone_line"].text ?? "")
        print("; the same as one string: \(key["record"].text ?? "")")
        if isNext {
            print(
                "; it signs when DNS has had that for long enough; the older key's record has to stay until slimtad says so"
            )
        } else {
            print("; mail of \(key["domain"].text ?? "") is refused until DNS has had that for an hour or more")
        }
    }

    /// Those that are named, of what slimta.conf has.
    private static func wishes(
        _ which: Which, isNext: Bool, _ file: ConfigurationFile
    ) throws(Failure) -> [SigningKeyWish] {
        let signing = file.values.signing
        if isNext, which.domains.isEmpty { throw Failure(.usage, "whose keys? slimtad dkim rotate DOMAIN") }
        if let algorithm = which.algorithm, DKIMAlgorithm(rawValue: algorithm) == nil {
            let known = DKIMAlgorithm.allCases.map(\.rawValue).joined(separator: ", ")
            throw Failure(.usage, "--algorithm: \(algorithm) is none of \(known)")
        }
        var wishes: [SigningKeyWish] = []
        for domain in which.domains.isEmpty ? signing.names : which.domains.map({ $0.foldedAsDomain() }) {
            let algorithms = signing.made(for: domain).filter {
                which.algorithm == nil || $0.rawValue == which.algorithm
            }
            if algorithms.isEmpty, !which.domains.isEmpty {
                throw Failure(
                    .usage,
                    "\(file.path) has no [[dkim]] without key_file for \(domain)"
                        + (which.algorithm.map { " and \($0)" } ?? "") + ": slimtad makes no key for it")
            }
            wishes += algorithms.map {
                SigningKeyWish(domain: domain, algorithm: $0.rawValue, selector: which.selector, isNext: isNext)
            }
        }
        guard !wishes.isEmpty else {
            throw Failure(.usage, "\(file.path) has no [[dkim]] without key_file: slimtad makes no keys")
        }
        if which.selector != nil, wishes.count > 1 {
            throw Failure(
                .usage, "--selector names one key, and these are \(wishes.count): name a domain, and --algorithm")
        }
        return wishes
    }

    /// A refusal that concerns this key alone is in the result.
    private static func make(_ wish: SigningKeyWish, by daemon: RunningDaemon) throws(Failure) -> Result<JSON, Failure>
    {
        let query =
            [HTTPTarget.Parameter("domain", wish.domain), .init("algorithm", wish.algorithm)]
            + (wish.selector.map { [.init("selector", $0)] } ?? []) + (wish.isNext ? [.init("next", "yes")] : [])
        let (status, answer) = try daemon.answer(.post, ["dkim", "make"], query)
        switch status {
        case 200: return .success(answer)
        case 409: return .failure(RunningDaemon.failure(status, answer["error"].text))
        default: throw RunningDaemon.failure(status, answer["error"].text)
        }
    }
}
