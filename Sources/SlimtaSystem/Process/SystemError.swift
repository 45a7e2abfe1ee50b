// Why a call to the system did not do what it was asked. Thrown by this target, told by the composition root.

import Glibc

/// A failed call to the system, or a refusal of our own where going on would be unsafe.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    package enum Code: Sendable {
        /// There is no such user, group, file or credential.
        case notFound
        /// The system or a rule of ours forbids it.
        case notPermitted
        /// A file cannot be made.
        case cannotCreate
        /// Another process has it.
        case locked
        /// It is not what it must be: wrong type of file, too long, wrong owner.
        case invalid
        /// Anything else that the system said.
        case failed
    }

    /// Tells the exit status.
    package let code: Code
    /// What was tried and what came of it, without the file's content.
    package let message: String
    /// The system's number for it; 0 where the refusal is ours.
    package let number: Int32

    /// A refusal of ours, or a failed call whose kind is known.
    package init(_ code: Code, _ message: String, number: Int32 = 0) {
        self.code = code
        self.message = message
        self.number = number
    }

    /// A call that failed with `number`; the code follows from that where it is not given.
    package init(_ what: String, number: Int32, code: Code? = nil) {
        self.code =
            code ?? (number == ENOENT ? .notFound : number == EPERM || number == EACCES ? .notPermitted : .failed)
        self.message = what
        self.number = number
    }

    /// For a person: what was tried, and what the system said.
    package var description: String {
        number == 0 ? message : "\(message): \(Self.text(of: number))"
    }

    /// The status that the process ends with if this is the end of it.
    package var exitStatus: ExitStatus {
        switch code {
        case .notFound, .invalid: .configuration
        case .notPermitted: .notPermitted
        case .cannotCreate: .cannotCreate
        case .locked: .temporary
        case .failed: .system
        }
    }

    /// What strerror says; glibc's has been safe for threads since 2.32.
    static func text(of number: Int32) -> String { String(cString: strerror(number)) }
}
