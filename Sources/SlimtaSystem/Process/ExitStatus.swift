// What the process ends with: the statuses of sysexits.h that slimtad uses. The composition root exits with them.

/// The exit status of slimtad.
package enum ExitStatus: Int32, Sendable {
    /// All was well.
    case success = 0
    /// Wrong command line.
    case usage = 64
    /// What came in is not what it should be.
    case data = 65
    /// There is no input, or it cannot be read.
    case noInput = 66
    /// No recipient is one.
    case noUser = 67
    /// A needed service is missing.
    case unavailable = 69
    /// The system refused something that should always work, such as a fork.
    case system = 71
    /// A port or file cannot be created.
    case cannotCreate = 73
    /// Reading or writing failed on the way.
    case inputOutput = 74
    /// It may work later: another slimtad holds the queue or the pid file.
    case temporary = 75
    /// Not permitted.
    case notPermitted = 77
    /// Wrong configuration.
    case configuration = 78
}
