// Requests that are not answered as was asked: every resource of the control socket throws it, and Control makes an error
// of HTTP of it.

import SlimtaMail
import SlimtaQueue

/// Why a request is not answered: a status of HTTP and a text.
struct Refusal: Error {
    let status: Int
    let text: String

    init(_ status: Int, _ text: String) {
        self.status = status
        self.text = text
    }

    init(_ mistake: QueueFilter.Mistake) { self.init(400, mistake.description) }

    init(_ error: StorageError, _ id: QueueID? = nil) {
        switch error {
        case .notFound: self.init(404, "\(id.map { "\($0)" } ?? "it") is not queued")
        case .damaged(let reason): self.init(500, "the record is damaged: \(reason)")
        case .failed(let reason): self.init(503, "the disk failed: \(reason)")
        case .full: self.init(507, "the disk is full")
        case .closed: self.init(503, "the daemon is stopping")
        case .away, .doubtful, .repeated: self.init(503, error.text)
        case .lost: self.init(404, "\(id.map { "\($0)" } ?? "it") \(error.text)")
        }
    }
}
