// `slimtad explain-session`: what would the rules say to such a client? The session is made up from options (SessionOptions),
// gone through (SessionExplanation) and printed here.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaEdge
import SlimtaMail
import SlimtaNet
import SlimtaRules
import SlimtaSMTP
import SlimtaSystem

struct ExplainSessionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain-session",
        abstract: "Say what the rules of slimta.conf would do to a session, and why.",
        discussion: """
            The session is made up from the options, and goes as far as they say: without --mail it ends behind AUTH. \
            A login is taken to have shown what is right; who would be asked about it is told, and nobody is but the \
            users file. \
            Names, SPF and lists are really looked up where a rule needs them, unless an option says what they are. \
            The file is read as it is on disk; no running slimtad is asked, no mail is sent, and no policy service or milter \
            asked. \
            Exit status 0: the session is taken, 1: it is refused, 69: a fact is missing (--no-lookups).
            """)

    @OptionGroup var config: ConfigurationOption
    @OptionGroup var session: SessionOptions

    @Flag(help: "Print a JSON object for each stage.")
    var json = false

    func run() {
        orExit { () throws(Failure) in
            let file = try ConfigurationFile.parse(config.path)
            let lists = try Lists.load(file)
            var made = try session.session(file.values)
            if let login = made.login {
                made.explanation = LoginExplanation(of: login, made, file, try session.choice(file.values.auth))
            }
            let rules = RuleSet(file.values.rules, lists: lists.all).forEdge(made.edge.name)
            let lookups = CommandLookups(
                file, zones: session.noLookups ? [:] : try file.readZones(), client: made.facts.client,
                isTrusted: made.isTrusted, mayAsk: !session.noLookups)
            defer { lookups.end() }
            var failure: Failure?
            let explanation = SessionExplanation(made, file.values, rules) { needed, facts, subject in
                do throws(Failure) {
                    return try lookups.find(needed, &facts, subject)
                } catch {
                    failure = error
                    return []
                }
            }
            if let failure { throw failure }
            if json { printJSON(explanation) } else { print(explanation, made) }
            lookups.end()
            Glibc.exit(explanation.status)
        }
    }

    // MARK: Output

    private func print(_ explanation: SessionExplanation, _ made: MadeUpSession) {
        for step in explanation.steps {
            let about = step.recipient.map { " \($0.text)" } ?? ""
            Swift.print("\(step.stage.rawValue)\(about)".visible)
            for line in step.lines { Swift.print("  \(line.name): \(line.outcome); \(line.action)".visible) }
            if step.lines.isEmpty { Swift.print("  no rules") }
            for note in step.notes { Swift.print("  \(note)".visible) }
            if step.delay > .zero { Swift.print("  the reply waits for \(step.delay)") }
            if let reply = step.refusal { Swift.print("  the client is told: \(reply)".visible) }
            for fact in step.missing.map(\.shown).sorted() { Swift.print("  missing: \(fact)".visible) }
        }
        for field in explanation.effects.fields {
            Swift.print("the message gets: \(field.split(separator: "\r\n").joined(separator: " "))".visible)
        }
        if let rule = explanation.effects.heldBy { Swift.print("the message is held by \(rule)".visible) }
        Swift.print(explanation.summary)
    }

    private func printJSON(_ explanation: SessionExplanation) {
        for step in explanation.steps {
            let rules = step.lines.map { line in
                JSON.object([
                    .init("name", .string(line.name)), .init("action", .string(line.action)),
                    .init("outcome", .string(line.outcome)),
                ])
            }
            Swift.print(
                JSON.object([
                    .init("stage", .string(step.stage.rawValue)),
                    .init("recipient", .optional(step.recipient?.text)), .init("rules", .array(rules)),
                    .init("notes", .array(step.notes.map { .string($0) })),
                    .init("reply", .optional(step.refusal?.description)),
                    .init("missing", .array(step.missing.map(\.shown).sorted().map { .string($0) })),
                ]).line)
        }
        Swift.print(
            JSON.object([
                .init("accepted", .bool(explanation.isAccepted)),
                .init("fields", .array(explanation.effects.fields.map { .string($0) })),
                .init("held_by", .optional(explanation.effects.heldBy)),
            ]).line)
    }
}

extension SessionExplanation {
    /// What came of it.
    var summary: String {
        if isAccepted { return "the session is taken" }
        return missing.isEmpty ? "the session is refused" : "what becomes of the session depends on what is missing"
    }

    /// 0: taken; 1: refused; 69: not known.
    var status: Int32 { isAccepted ? 0 : missing.isEmpty ? 1 : ExitStatus.unavailable.rawValue }
}
