// What all questions to PAM share: how many are asked at once, by which service, and when answers leave. The composition root
// makes it; each PAMConnection has it.

internal import CPAM

/// As the helper is to ask.
package struct PAMService: Hashable, Sendable {
    /// The name of its file.
    package var name: String
    /// The folder that has the file; nil: the system's.
    package var folder: String?
    /// How long PAM may take, in milliseconds.
    package var timeout: Int64

    /// Each is what its property says.
    package init(name: String, folder: String?, timeout: Int64) {
        (self.name, self.folder, self.timeout) = (name, folder, timeout)
    }
}

/// The processes that ask.
package final class PAMWorkers {
    /// More at once are told that there are too many: a module that hangs must not fill the machine with processes.
    package static let limit = 16
    /// Connections at once: those that are told so, and answers that wait to leave, have room too.
    package static let connections = 200

    /// How PAM is asked, as slimta.conf has it by now; a failure is in words for the operator.
    let service: () -> Result<PAMService, Failure>
    var running = 0
    var pace = PAMPace()

    /// Why there is no service.
    package struct Failure: Error, Hashable {
        let reason: String

        /// In words for the operator.
        package init(_ reason: String) { self.reason = reason }
    }

    /// - Parameter service: is called for each question.
    package init(service: @escaping () -> Result<PAMService, Failure>) { self.service = service }

    /// Why PAM cannot be asked here at all; nil: its library is there.
    package static var problem: String? { cpam_load().map { String(cString: $0) } }
}
