// What the storage says of what the database said: in one place for who reads and who writes.

import SlimtaQueue
import SlimtaRecords

extension StorageError {
    /// Of what only read, or can be made again: then it is all the same whether it was done. Who commits asks
    /// `mayHaveCommitted` first.
    init(_ error: PostgresError) {
        switch error {
        case .unavailable, .unreachable, .doubtful, .warned: self = .away(error.description)
        case .refused(let state, _, _):
            if state == "53100" {
                self = .full
            } else if error.isPassing {
                self = .away(error.description)
            } else {
                self = .failed(error.description)
            }
        }
    }

    /// Of whatever a job has thrown.
    init(reading error: any Error) {
        switch error {
        case let error as StorageError: self = error
        case let error as PostgresError: self.init(error)
        case let error as FormatError: self = .damaged(error.text)
        default: self = .failed("\(error)")
        }
    }
}

extension PostgresError {
    /// Whether it was the connection's, or the server's that it leads to: another one may do.
    var isPassing: Bool {
        switch self {
        case .unavailable: false
        case .unreachable, .doubtful, .warned: true
        // A server that shuts down, has crashed or is starting; too many connections; one that has become a standby.
        case .refused(let state, _, _):
            state.hasPrefix("08") || ["57P01", "57P02", "57P03", "53300", "25006"].contains(state)
        }
    }
}
