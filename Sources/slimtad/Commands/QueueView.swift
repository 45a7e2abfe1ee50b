// The queue as commands see it: asked of the running daemon, or read from the files where none runs. Both say the same
// in the same JSON.

import Glibc
import SlimtaControl
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import SlimtaSystem

/// Where a command looks at the queue.
enum QueueView {
    case daemon(RunningDaemon)
    case files(StorageInspector)

    /// The daemon if one runs, else the files.
    static func open(_ file: ConfigurationFile) throws(Failure) -> QueueView {
        if let daemon = try RunningDaemon.connect(file) { return .daemon(daemon) }
        return .files(try file.inspectQueue())
    }

    /// Calls `body` with every message that the filter means, in the order of arrival, until it returns false.
    func forEach(_ query: [HTTPTarget.Parameter], _ body: (JSON) -> Bool) throws(Failure) {
        switch self {
        case .daemon(let daemon):
            try daemon.pages(.get, ["queue"], query + [.init("limit", "1000")]) { page in
                tell(page["unreadable"])
                return page["messages"].elements.allSatisfy(body)
            }
        case .files(let inspector):
            try Self.forEach(inspector, query) { queued, place, now in
                body(.item(queued.envelope, queued.state, place, now: now))
            }
        }
    }

    func count(_ query: [HTTPTarget.Parameter]) throws(Failure) -> Int {
        var count = 0
        switch self {
        case .daemon(let daemon):
            try daemon.pages(.get, ["queue", "count"], query) { page in
                count += Int(page["count"].integer ?? 0)
                return true
            }
        case .files(let inspector):
            if query.isEmpty { return inspector.queued.count }
            try Self.forEach(inspector, query) { _, _, _ in
                count += 1
                return true
            }
        }
        return count
    }

    func show(_ id: QueueID) throws(Failure) -> JSON {
        switch self {
        case .daemon(let daemon):
            return try Self.accept(daemon.answer(.get, ["queue", "\(id)"]), of: id)
        case .files(let inspector):
            let stored = try Self.load(inspector, id)
            let now = Timestamp.now()
            return .whole(stored, QueuePlace(of: stored.state, now: now), now: now)
        }
    }

    /// The daemon's answer about one message; throws a refusal in words.
    @discardableResult
    static func accept(_ answer: (status: Int, JSON), of id: QueueID) throws(Failure) -> JSON {
        switch answer.status {
        case 200: return answer.1
        case 404: throw gone("\(id)")
        default: throw RunningDaemon.failure(answer.status, answer.1["error"].text)
        }
    }

    static func load(_ inspector: StorageInspector, _ id: QueueID) throws(Failure) -> StoredEnvelope {
        do throws(StorageError) {
            return try inspector.load(id)
        } catch {
            if error == .notFound { throw gone("\(id)") }
            throw Failure(.unavailable, "\(id): \(error.text)")
        }
    }

    /// The id that was meant: a whole one, or the one queued message whose id begins with `text`.
    func resolve(_ text: String) throws(Failure) -> QueueID {
        let meant = try queueIDs(text)
        guard meant.lowerBound < meant.upperBound else { return meant.lowerBound }
        var found: [String] = []
        switch self {
        case .daemon(let daemon):
            let after = meant.lowerBound.predecessor.map { [HTTPTarget.Parameter("after", "\($0)")] } ?? []
            let page = try daemon.ask(
                .get, ["queue"], after + [.init("until", "\(meant.upperBound)"), .init("limit", "3")])
            found = (page["messages"].elements + page["unreadable"].elements).compactMap { $0["id"].text }
        case .files(let inspector):
            let ids = inspector.queued.lazy.map(\.id)
            found = ids.drop { $0 < meant.lowerBound }.prefix { $0 <= meant.upperBound }.prefix(3).map { "\($0)" }
        }
        guard let first = found.first, let id = QueueID(first) else { throw Self.gone(text) }
        guard found.count == 1 else {
            throw Failure(
                .usage, "\(text) begins several ids, such as \(found.joined(separator: " and ")): give more of it")
        }
        return id
    }

    /// What is said of an id, or the beginning of one, that is not queued.
    static func gone(_ text: String) -> Failure {
        let journal = text.utf8.count == 32 ? "journalctl SLIMTA_QUEUE_ID=\(text)" : "journalctl -u slimtad -g \(text)"
        return Failure(
            .unavailable,
            "\(text) is not queued: it was delivered, bounced or removed, or never was; the journal tells: \(journal)")
    }

    private static func forEach(
        _ inspector: StorageInspector, _ query: [HTTPTarget.Parameter],
        _ body: (QueuedEnvelope, QueuePlace, Timestamp) -> Bool
    ) throws(Failure) {
        let filter: QueueFilter
        do throws(QueueFilter.Mistake) { filter = try QueueFilter(query) } catch {
            throw Failure(.usage, error.description)
        }
        let now = Timestamp.now()
        var place: QueueID?
        repeat {
            let page = inspector.page(after: place, count: 1000)
            for (id, reason) in page.unreadable { say("\(id) cannot be read: \(reason)") }
            for queued in page.envelopes {
                let place = QueuePlace(of: queued.state, now: now)
                guard filter.matches(queued.envelope, queued.state, place, now: now) else { continue }
                guard body(queued, place, now) else { return }
            }
            place = page.next
        } while place != nil
    }

    private func tell(_ unreadable: JSON) {
        for item in unreadable.elements {
            say("\(item["id"].text ?? "?") cannot be read: \(item["error"].text ?? "no reason is given")")
        }
    }
}

/// What a queue id from the command line can mean: one id, or all that begin with it.
func queueIDs(_ text: String) throws(Failure) -> ClosedRange<QueueID> {
    guard let ids = QueueID.all(beginningWith: text) else {
        throw Failure(
            .usage, "\"\(text)\" is not a queue id: up to 32 hexadecimal digits, as slimtad queue list prints them")
    }
    return ids
}
