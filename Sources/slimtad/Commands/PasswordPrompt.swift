// Asking for a password: on the terminal without showing it, otherwise one line of standard input. `slimtad passwd` and
// `slimtad users test` ask.

import Glibc
import SlimtaSystem

enum PasswordPrompt {
    /// A password that is to be set: on a terminal it is asked for twice.
    static func new() throws(Failure) -> [UInt8] {
        let password = try once()
        if isatty(STDIN_FILENO) == 1 {
            guard ask("Again: ") == password else {
                throw Failure(.usage, "the passwords are not the same; nothing was changed")
            }
        }
        guard !password.isEmpty else { throw Failure(.usage, "an empty password cannot be used") }
        guard password.utf8.count <= 500, !password.utf8.contains(0) else {
            throw Failure(.usage, "the password is longer than 500 octets, or has a NUL in it")
        }
        return Array(password.utf8)
    }

    /// A password that is to be compared.
    static func existing() throws(Failure) -> [UInt8] { Array(try once().utf8) }

    private static func once() throws(Failure) -> String {
        let line = isatty(STDIN_FILENO) == 1 ? ask("Password: ") : readLine(strippingNewline: true)
        guard let line else { throw Failure(.usage, "no password was given") }
        return line
    }

    /// Asks on the terminal without showing what is typed.
    private static func ask(_ text: String) -> String? {
        var octets = Array(text.utf8)
        write(STDERR_FILENO, &octets, octets.count)
        var settings = termios()
        tcgetattr(STDIN_FILENO, &settings)
        let shown = settings
        settings.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
        defer {
            var shown = shown
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown)
            var newline: UInt8 = 10
            write(STDERR_FILENO, &newline, 1)
        }
        return readLine(strippingNewline: true)
    }
}
