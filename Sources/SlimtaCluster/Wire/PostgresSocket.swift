// What waits for a server: making a connection, sending, answers, each until a deadline. libpq itself never waits here.

import CPostgres
import Glibc

/// The owner of a connection of libpq. What it throws once it is made is `doubtful`: whoever asks knows whether anything
/// was sent that could be.
final class PostgresSocket {
    private let handle: OpaquePointer
    /// Whether it is of no use any more.
    private(set) var isBroken = false

    /// Makes a connection to one address.
    /// - Parameter place: what errors call it.
    init(_ words: [String: String], to place: String, by deadline: Deadline) throws(PostgresError) {
        let keywords = words.keys.map { strdup($0) }
        let values = words.values.map { strdup($0) }
        defer { for text in keywords + values { free(text) } }
        let started = (keywords.map { UnsafePointer($0) } + [nil]).withUnsafeBufferPointer { keywords in
            (values.map { UnsafePointer($0) } + [nil]).withUnsafeBufferPointer { values in
                cpq_start(keywords.baseAddress, values.baseAddress)
            }
        }
        guard let started else { throw .unreachable("no memory") }
        handle = started
        do throws(PostgresError) { try connect(to: place, by: deadline) } catch {
            isBroken = true
            throw error
        }
    }

    deinit { cpq_finish(handle, isBroken) }

    private func connect(to place: String, by deadline: Deadline) throws(PostgresError) {
        guard !cpq_is_bad(handle) else { throw .unreachable(PostgresError.line(cpq_error(handle))) }
        var wanted = POLLOUT
        while true {
            guard wait(wanted, by: deadline) != nil else {
                throw .unreachable(PostgresError.line("\(place): no connection in the time that it may take"))
            }
            switch Int(cpq_connect(handle)) {
            case CPQ_READING: wanted = POLLIN
            case CPQ_WRITING: wanted = POLLOUT
            case CPQ_CONNECTED: return
            default: throw .unreachable(PostgresError.line(cpq_error(handle)))
            }
        }
    }

    /// What of `events` has happened; nil: time is over. What has come when it is over is not looked at: a server that
    /// drips would be waited for without end.
    private func wait(_ events: Int32, by deadline: Deadline) -> Int32? {
        while !deadline.hasPassed {
            var entry = pollfd(fd: cpq_socket(handle), events: Int16(events), revents: 0)
            let count = poll(&entry, 1, deadline.milliseconds)
            if count > 0 { return Int32(entry.revents) }
            // What else poll may say, no memory, is waited out.
            if count < 0, errno != EINTR { usleep(1_000) }
        }
        return nil
    }

    // MARK: Before a question

    /// Why nothing can be asked, as far as that can be seen from here; nil: it can. Forgets what the server has said before.
    func obstacle() -> String? {
        guard !isBroken else { return "the connection was given up" }
        for _ in 0..<8 where isReadable {
            guard cpq_consume(handle) else {
                isBroken = true
                break
            }
            cpq_look(handle)
        }
        let farewell = String(cString: cpq_farewell(handle))
        if !farewell.isEmpty || cpq_is_bad(handle) { isBroken = true }
        cpq_forget_notices(handle)
        guard isBroken else { return nil }
        return PostgresError.line(farewell.isEmpty ? String(cString: cpq_error(handle)) : farewell)
    }

    private var isReadable: Bool {
        var entry = pollfd(fd: cpq_socket(handle), events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, 0) > 0
    }

    /// The first warning since `obstacle` was asked for.
    var warning: String? {
        let text = String(cString: cpq_warning(handle))
        return text.isEmpty ? nil : PostgresError.line(text)
    }

    // MARK: Calls

    /// Notifications with this word are calls from now on.
    func awaitCalls(with word: String) throws(PostgresError) { try must(cpq_await_call(handle, word)) }

    /// Waits for a call until `bell` can be read or time is over; whether there was one.
    func waitForCall(orBell bell: Int32, by deadline: Deadline) -> Bool {
        if cpq_take_call(handle) { return true }
        var entries = [cpq_socket(handle), bell].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        let count = poll(&entries, 2, deadline.milliseconds)
        if count > 0, entries[0].revents != 0, !cpq_consume(handle) { isBroken = true }
        return cpq_take_call(handle)
    }

    // MARK: Questions

    func enterPipeline() throws(PostgresError) { try must(cpq_enter_pipeline(handle)) }

    /// Without it the connection is broken.
    func exitPipeline() { if !cpq_exit_pipeline(handle) { isBroken = true } }

    func sync() throws(PostgresError) { try must(cpq_sync(handle)) }

    func query(_ sql: String) throws(PostgresError) { try must(cpq_query(handle, sql)) }

    func prepare(_ statement: PostgresStatement, as name: String) throws(PostgresError) {
        let types = statement.parameters.map(\.rawValue)
        try must(cpq_prepare(handle, name, statement.sql, Int32(types.count), types))
    }

    func execute(_ name: String, _ values: [PostgresValue]) throws(PostgresError) {
        var pointers: [UnsafePointer<CChar>?] = []
        let lengths = values.map { Int32($0.octets?.count ?? 0) }
        try must(execute(name, values[...], &pointers, lengths))
    }

    /// The octets of all values have to stay where they are at the same time: one call inside the other holds them.
    private func execute(
        _ name: String, _ values: ArraySlice<PostgresValue>, _ pointers: inout [UnsafePointer<CChar>?],
        _ lengths: [Int32]
    ) -> Bool {
        guard let value = values.first else {
            return cpq_execute(handle, name, Int32(pointers.count), pointers, lengths)
        }
        guard let octets = value.octets else {
            pointers.append(nil)
            return execute(name, values.dropFirst(), &pointers, lengths)
        }
        return octets.withUnsafeBytes { octets in
            // No pointer would be a null.
            withUnsafeBytes(of: 0 as UInt8) { nothing in
                pointers.append((octets.baseAddress ?? nothing.baseAddress)?.assumingMemoryBound(to: CChar.self))
                return execute(name, values.dropFirst(), &pointers, lengths)
            }
        }
    }

    private func must(_ isDone: Bool) throws(PostgresError) {
        guard !isDone else { return }
        isBroken = true
        throw .doubtful(PostgresError.line(cpq_error(handle)))
    }

    /// Sends what is not sent yet. Takes in what comes meanwhile: a server that cannot answer would read no more.
    func flush(by deadline: Deadline) throws(PostgresError) {
        while true {
            let left = cpq_flush(handle)
            guard left >= 0 else { throw lost() }
            if left == 0 { return }
            guard let events = wait(POLLIN | POLLOUT, by: deadline) else {
                throw late("time was over before all was sent")
            }
            if events & ~POLLOUT != 0, !cpq_consume(handle) { throw lost() }
        }
    }

    // MARK: Answers

    /// The next answer to a step; nil: it has no more.
    func next(by deadline: Deadline) throws(PostgresError) -> PostgresResult? {
        while cpq_is_busy(handle) {
            guard wait(POLLIN, by: deadline) != nil else { throw late("time was over before the answer came") }
            if !cpq_consume(handle) { throw lost() }
        }
        return cpq_next(handle).map(PostgresResult.init)
    }

    /// The one answer to a step: done, refused or skipped.
    func answer(by deadline: Deadline) throws(PostgresError) -> PostgresResult {
        guard let result = try next(by: deadline) else { throw strange() }
        switch result.kind {
        case .done, .refused, .skipped: break
        case .lost: throw lost(result)
        case .sync: throw strange()
        }
        guard try next(by: deadline) == nil else { throw strange() }
        return result
    }

    /// The end of a transaction; what it is refused by, if the commit itself was.
    func end(by deadline: Deadline) throws(PostgresError) -> PostgresResult? {
        var refusal: PostgresResult?
        for _ in 0..<4 {
            guard let result = try next(by: deadline) else { continue }
            switch result.kind {
            case .sync: return refusal
            case .refused: refusal = result
            case .lost: throw lost(result)
            case .done, .skipped: throw strange()
            }
        }
        throw strange()
    }

    /// For an answer after which nothing can be known.
    func lost(_ result: PostgresResult) -> PostgresError {
        isBroken = true
        guard let state = result.state else { return lost() }
        return .doubtful(PostgresError.line("\(state): \(result.text)"))
    }

    private func strange() -> PostgresError {
        isBroken = true
        return .doubtful("the server answers what was not asked")
    }

    private func late(_ text: String) -> PostgresError {
        isBroken = true
        return .doubtful(text)
    }

    private func lost() -> PostgresError {
        isBroken = true
        let text = PostgresError.line(cpq_error(handle))
        // What the server has said before it went is more than that it went. These do not wait: there is nothing to read from.
        for _ in 0..<4 where cpq_is_bad(handle) {
            guard let result = cpq_next(handle).map(PostgresResult.init) else { break }
            if let state = result.state { return .doubtful(PostgresError.line("\(state): \(result.text)")) }
        }
        let farewell = String(cString: cpq_farewell(handle))
        return .doubtful(farewell.isEmpty ? text : PostgresError.line(farewell))
    }
}
