// The command line: one executable, a subcommand for each thing that can be done. `slimtad` alone is `slimtad run`.

import ArgumentParser
import Glibc
import SlimtaConfiguration
import SlimtaMail
import SlimtaSystem

@main
struct Slimtad: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "slimtad",
        abstract: "A mail submission agent: takes messages over SMTP, stores them durably, relays them.",
        version: "slimtad \(Version.text)",
        subcommands: [
            RunCommand.self, CheckCommand.self, PasswdCommand.self, UsersCommand.self, LoginCommand.self,
            QueueCommand.self, GuessCommand.self, StatusCommand.self, AuditCommand.self, ReloadCommand.self,
            DrainCommand.self, MapCommand.self, DKIMCommand.self, TLSCommand.self, SiteCommand.self,
            TLSReportCommand.self, DatabaseCommand.self, NodeCommand.self,
            ExplainSessionCommand.self, SendmailCommand.self,
            CatalogCommand.self, PipeHelperCommand.self, PAMHelperCommand.self,
        ],
        defaultSubcommand: RunCommand.self)

    static func main() {
        // Of every command: `passwd` has a password in memory as well.
        orExit { () throws(Failure) in
            do throws(SystemError) { try CoreFiles.forbid() } catch { throw Failure(error) }
        }
        let name = CommandLine.arguments.first.map { String($0.split(separator: "/").last ?? "") } ?? ""
        if SendmailCommand.names.contains(name) {
            SendmailCommand.run(calledAs: name, CommandLine.arguments.dropFirst())
        }
        if let mistake = unknownCommand(CommandLine.arguments.dropFirst(), of: Slimtad.self) {
            say(mistake)
            Glibc.exit(ExitStatus.usage.rawValue)
        }
        main(nil)
    }

    /// What is said of a word where a command is expected and that is none: the parser would take it for an argument of
    /// the default command. nil if there is no such word.
    private static func unknownCommand(
        _ words: ArraySlice<String>, of command: any ParsableCommand.Type
    ) -> String? {
        let commands = command.configuration.subcommands
        guard let word = words.first, !word.hasPrefix("-"), word != "help", !commands.isEmpty else { return nil }
        if let found = commands.first(where: { $0.configuration.commandName == word }) {
            return unknownCommand(words.dropFirst(), of: found)
        }
        let names = commands.compactMap { $0.configuration.commandName }
        let meant = Spelling.nearest(to: word, among: names).map { "did you mean \"\($0)\"?" }
        return "\"\(word.visible)\" is no command; \(meant ?? "there are \(names.joined(separator: ", "))")"
    }
}
