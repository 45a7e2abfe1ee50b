// `slimtad sendmail`, and what is called sendmail, mailq or newaliases: the mail command that programs expect. It needs no rights
// of its own: the daemon knows from the kernel who calls.

import ArgumentParser
import Glibc
import NIOCore
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaSystem

struct SendmailCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sendmail", abstract: "Take a message as sendmail does: see slimtad-sendmail(8).",
        discussion: """
            What is called sendmail, mailq or newaliases is this command too. It has sendmail's options, and \
            --config FILE; addresses are recipients, -t takes those of the header.
            """)

    /// What the program may be called as to be this command.
    static let names: Set = ["sendmail", "mailq", "newaliases"]

    @Argument(parsing: .captureForPassthrough, help: .init("As sendmail's.", valueName: "option"))
    var words: [String] = []

    func run() { Self.run(calledAs: "sendmail", words) }

    /// Does what the command line says, and ends the program.
    static func run(calledAs name: String, _ words: some Sequence<String>) -> Never {
        // The daemon may refuse a message while it is sent.
        signal(SIGPIPE, SIG_IGN)
        let status = orExit { () throws(Failure) -> ExitStatus in
            let options: SendmailOptions
            do throws(SendmailOptions.Mistake) { options = try SendmailOptions(calledAs: name, words) } catch {
                throw Failure(.usage, error.text)
            }
            return try perform(options)
        }
        Glibc.exit(status.rawValue)
    }

    private static func perform(_ options: SendmailOptions) throws(Failure) -> ExitStatus {
        if options.mode == .aliases {
            print("slimtad has no aliases: there is nothing to rebuild")
            return .success
        }
        let places = try SendmailPlaces.find(options.configuration)
        switch options.mode {
        case .deliver: return try SendmailMessage(options, places, caller(places, options.fullName)).send()
        case .session:
            var session = SendmailSession(places, try caller(places))
            return try session.run()
        case .list, .flush:
            guard options.addresses.isEmpty else {
                throw Failure(.usage, "\"\(options.addresses[0])\": no message is expected with this option")
            }
            try options.mode == .list ? list(places) : flush(places, isVerbose: options.isVerbose)
            return .success
        case .aliases: return .success
        }
    }

    private static func caller(
        _ places: SendmailPlaces, _ fullName: String? = nil
    ) throws(Failure) -> SendmailCaller {
        let uid = geteuid()
        guard let user = Accounts.user(uid), let mailbox = Mailbox(localName: user.name, domain: places.hostname) else {
            throw Failure(.notPermitted, "user \(uid) has no name on this machine, so it has no address to send from")
        }
        return SendmailCaller(mailbox: mailbox, fullName: fullName ?? user.fullName, hostname: places.hostname)
    }

    // MARK: The queue

    private static func list(_ places: SendmailPlaces) throws(Failure) {
        let daemon = try daemon(places)
        var (table, count) = (QueueTable(), 0)
        try daemon.pages(.get, ["queue"], []) { page in
            for message in page["messages"].elements {
                table.row(message)
                count += 1
            }
            return true
        }
        table.end(count, isFiltered: false, isCut: false)
    }

    private static func flush(_ places: SendmailPlaces, isVerbose: Bool) throws(Failure) {
        let answer = try daemon(places).ask(.post, ["queue", "flush"])
        if isVerbose { print("\(counted(answer["done"].integer ?? 0, "message")) to be tried now") }
    }

    private static func daemon(_ places: SendmailPlaces) throws(Failure) -> RunningDaemon {
        guard let socket = places.socket else {
            throw Failure(.configuration, "\(places.file) has no [[edge]] of type \"sendmail\", which is asked")
        }
        guard let client = try SendmailDelivery.connect(socket) else {
            throw Failure(.temporary, "slimtad does not run: nobody listens on \(socket)")
        }
        return RunningDaemon(client: client)
    }
}
