// How a command ends that cannot go on: what is said on standard error, and the exit status. Every command throws it.

import Glibc
import SlimtaMail
import SlimtaSystem

/// Why slimtad ends: what it says, and the status that it ends with.
struct Failure: Error {
    let status: ExitStatus
    let message: String

    init(_ status: ExitStatus, _ message: String) {
        self.status = status
        self.message = message
    }

    init(_ error: SystemError) { self.init(error.exitStatus, error.description) }
}

/// Runs the body of a subcommand: what it throws is said on standard error, and is the exit status.
func orExit<Result>(_ body: () throws(Failure) -> Result) -> Result {
    do throws(Failure) {
        return try body()
    } catch {
        say(error.message)
        exit(error.status.rawValue)
    }
}

/// Writes lines to standard error, each with the program's name. In the journal they are errors.
func say(_ text: String) {
    let priority = LogHandlers.isStandardErrorJournal ? "<3>" : ""
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
        var octets = Array("\(priority)slimtad: \(line.visible)\n".utf8)
        write(STDERR_FILENO, &octets, octets.count)
    }
}
