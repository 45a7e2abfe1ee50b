// What the control socket's requests mean. ControlServer calls it; it looks at the daemon's parts, never waits for an
// event loop, and has the storage's threads do what needs the disk.

package import Logging
import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
package import SlimtaRules
import Synchronization

/// Answers requests. All answers are JSON, an error is `{"error": "..."}` with a status of 400 or more:
///
///     GET  /status           the daemon as a whole; all=yes: with all that is counted of a queue that nodes share
///     GET  /queue            a page: {"messages": [...], "unreadable": [...], "next": ID or null}; parameters: those of
///                            a filter (QueueFilter), limit (100; 1000 at most), after (an ID: where a page ended),
///                            until (an ID: where to end, so that what arrives meanwhile is not meant)
///     GET  /queue/count      {"count": N}; with a filter a page of the count: add up while "next" is not null
///     GET  /queue/ID         all that is known of a message; with ?content the message itself
///     POST /queue/ACTION     flush, hold, release, remove, bounce: of id=ID (repeated), or a filter, or all=yes; a page
///                            of it: {"done": N, "failed": [{"id", "error"}], "next", "delivering"}, with "silent": [who
///                            did not say what came of it, such as "node mx2"] if there are any; go on with after
///     GET  /nodes            the nodes that share the queue, and their database: {"nodes": [{"name", "state", ...}], ...};
///                            queued=no: without a count of their messages, which takes a second for a million
///     POST /nodes/drain      name=NODE takes no mail and gives its part of the queue away; force=yes: also the last one;
///                            answered as by /nodes?queued=no, or with "error": it is done, and they could not be looked at
///     POST /nodes/resume     ends that
///     POST /nodes/forget     name=NODE has gone for good
///     GET  /logins           what was counted: {"counting": BOOL, "known": N, "logins": [...]}, those that are held first;
///                            parameters: limit (100; 1000 at most), held=yes; login=NAME: of one alone, an object
///     POST /logins/ACTION    hold, release, bounce: of login=NAME; {"login", "done": N, "failed": [...], "delivering"}; mail=no:
///                            hold and release without its mail
///     GET  /audit            proves the ledger from storage: {"clean": BOOL, "ledger": {...}, "findings": [...], ...}
///     POST /audit/acknowledge  what was lost is not told of any more: {"acknowledged": [...]}
///     GET  /guesses          who has guessed passwords and waits or is turned away: [{"kind", "name", ...}]
///     POST /guesses/release  of name=ADDRESS, NETWORK or LOGIN nothing is held against it any more: {"released": NAME}
///     GET  /sites            the hosts that mail goes to, and how much they take: {"sites": [...]}; name=SITE or HOST: of
///                            those alone
///     POST /sites/set        sets limits of name=SITE or HOST: connections, rate, messages, recipients; "none": no limit
///     POST /sites/forget     forgets what was learned, and set, of name=SITE or HOST
///                            These of logins and sites may have nodes=all: then all nodes of a shared queue answer,
///                            {"nodes": [{"node", "status", "answer"}], "silent": [{"node", "reason"}]}
///     GET  /dkim             the keys that mail is signed with: {"domains": [...], "keys": [...]}; domain=NAME: of one alone
///     POST /dkim/check       the same, with DNS asked now
///     POST /dkim/make        makes a key: domain=NAME, algorithm=rsa-sha256 or ed25519-sha256, selector=NAME, next=yes if it
///                            is to follow another one; the key as above, or 409 if there is one, or none, already
///     GET  /tls              what is remembered of hosts' TLS: [{"domain", "host", "days", ...}]; domain=NAME: of one alone
///     GET  /tls/explain      how mail would go to the hosts of domain=NAME now: {"hosts": [...], ...}; asks DNS
///     POST /tls/forget       of domain=NAME nothing is remembered any more: {"forgotten": N}
///     GET  /tlsrpt           TLS reports: {"on": BOOL, "counted": [...], "waiting": [...], "past": [...]}; domain=NAME: of one
///                            alone
///     POST /tlsrpt/send      sends those that wait now, with today=yes what today has counted as well: {"tried": [...]}
///     POST /checkpoint       brings all that is in the journal into GDBM files
///     POST /reload           as SIGHUP, and waits: {"applied": BOOL, "errors": [...], "warnings": [...]}; 422 with errors
///     POST /drain            as SIGTERM
package final class Control: ControlService {
    private static let unknownPath = "there is nothing at"
    private static let unknownParameter = "there is no parameter"
    /// How the answers to paths and parameters begin that are none: commands know a daemon of an older version by them.
    package static let unknown = [unknownPath, unknownParameter]

    let storage: any QueueBackend
    let queue: Queue
    let quotas: QuotaBook
    let daemon: any ControlledDaemon
    let logger: Logger
    let isAuditing = Atomic(false)
    /// Whose recent mail is being held.
    let sweeping = Mutex(Sweeping())
    /// Some of what was held has left the queue, and was not counted anew yet.
    let owesCount = Atomic(false)

    /// Answers for the daemon that these are the parts of. Who asks for changes is written to `logger`.
    package init(
        storage: any QueueBackend, queue: Queue, quotas: QuotaBook, daemon: any ControlledDaemon, logger: Logger
    ) {
        self.quotas = quotas
        self.storage = storage
        self.queue = queue
        self.daemon = daemon
        self.logger = logger
        (storage as? any SharedBackend)?.onQuestion { [weak self] in await self?.answer($0) ?? "" }
    }

    /// Answers a request; a mistake in it is an answer too.
    package func respond(to request: ControlRequest) async -> HTTPResponse {
        do throws(Refusal) {
            if let each = try forEachNode(request) { return await respondEverywhere(to: each) }
        } catch {
            return .error(error.status, error.text)
        }
        return await respondHere(to: request)
    }

    /// As `respond`, for this node alone.
    func respondHere(to request: ControlRequest) async -> HTTPResponse {
        do throws(Refusal) { return try await answer(request) } catch { return .error(error.status, error.text) }
    }

    private func answer(_ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        let query = request.query
        switch (request.method, request.path) {
        case (.get, ["status"]): return HTTPResponse(try await status(query))
        case (.get, ["nodes"]): return try await nodes(query)
        case (.post, let path) where path.count == 2 && path[0] == "nodes":
            return try await changeNode(path[1], request)
        case (.get, ["queue"]): return try await list(query)
        case (.get, ["queue", "count"]): return try await count(query)
        case (.get, let path) where path.count == 2 && path[0] == "queue":
            return try await show(path[1], query)
        case (.post, let path) where path.count == 2 && path[0] == "queue":
            guard let action = QueueAction(rawValue: path[1]) else {
                throw Refusal(404, "\(path[1]) is none of \(QueueAction.names)")
            }
            return try await change(action, request)
        case (.get, ["logins"]): return try await logins(query)
        case (.post, let path) where path.count == 2 && path[0] == "logins":
            guard let action = LoginAction(rawValue: path[1]) else {
                throw Refusal(404, "\(path[1]) is none of \(LoginAction.names)")
            }
            return try await change(action, request)
        case (.get, ["audit"]):
            try allow([], query)
            return try await audit()
        case (.post, ["audit", "acknowledge"]):
            try allow([], query)
            await log(request, "audit --acknowledge")
            return try await acknowledge()
        case (.get, ["guesses"]):
            try allow([], query)
            return HTTPResponse(guesses())
        case (.post, ["guesses", "release"]): return try await release(request)
        case (.get, ["sites"]): return try sites(query)
        case (.post, let path) where path.count == 2 && path[0] == "sites":
            return try await changeSite(path[1], request)
        case (.get, ["dkim"]): return try signingKeys(query)
        case (.post, ["dkim", "check"]): return try await checkSigningKeys(query)
        case (.post, ["dkim", "make"]): return try await makeSigningKey(request)
        case (.get, ["tls"]): return try tlsMemory(query)
        case (.get, ["tls", "explain"]): return try await explainTLS(query)
        case (.post, ["tls", "forget"]): return try await forgetTLS(request)
        case (.get, ["tlsrpt"]): return try tlsReports(query)
        case (.post, ["tlsrpt", "send"]): return try await sendTLSReports(request)
        case (.post, ["checkpoint"]):
            try allow([], query)
            return try await checkpoint(request)
        case (.post, ["reload"]):
            try allow([], query)
            await log(request, "reload")
            return await reload()
        case (.post, ["drain"]):
            try allow([], query)
            await log(request, "drain")
            return HTTPResponse(.object([.init("draining", .bool(true))])) { [daemon] in daemon.drain() }
        case (_, let path) where Self.isKnown(path):
            throw Refusal(405, "GET is for looking, POST for changing something")
        default: throw Refusal(404, "\(Self.unknownPath) /\(request.path.joined(separator: "/"))")
        }
    }

    private func checkpoint(_ request: ControlRequest) async throws(Refusal) -> HTTPResponse {
        await log(request, "checkpoint")
        guard let storage = storage as? any CheckpointedBackend else {
            throw Refusal(404, "this queue's storage makes no checkpoints")
        }
        do throws(StorageError) { try await storage.checkpoint() } catch { throw Refusal(error) }
        return HTTPResponse(.object([.init("checkpoint", .count(storage.status().checkpoint))]))
    }

    private static func isKnown(_ path: [String]) -> Bool {
        switch path.first {
        case "status", "checkpoint", "reload", "drain": path.count == 1
        case "audit": path.count == 1 || path == ["audit", "acknowledge"]
        case "dkim": path.count == 1 || [["dkim", "check"], ["dkim", "make"]].contains(path)
        case "tls": path.count == 1 || [["tls", "explain"], ["tls", "forget"]].contains(path)
        case "tlsrpt": path.count == 1 || path == ["tlsrpt", "send"]
        case "guesses": path.count == 1 || path == ["guesses", "release"]
        case "queue", "logins", "sites", "nodes": path.count <= 2
        default: false
        }
    }

    /// A parameter that is not known is a mistake: a filter that is misspelt must not mean everything.
    func allow(_ names: [String], _ query: [HTTPTarget.Parameter]) throws(Refusal) {
        for parameter in query where !names.contains(parameter.name) {
            let known = names.isEmpty ? "there are none here" : "known are \(names.joined(separator: ", "))"
            throw Refusal(400, "\(Self.unknownParameter) \"\(parameter.name)\": \(known)")
        }
    }

    /// Writes down who asked for a change; returns the name.
    @discardableResult
    func log(_ request: ControlRequest, _ command: String) async -> String {
        if let asker = request.asker {
            logger.notice("command", metadata: ["command": "\(command)", "by": "\(asker)"])
            return asker
        }
        let name = await daemon.userName(request.peer.uid)
        logger.notice("command", metadata: ["command": "\(command)", "by": "\(name)", "pid": "\(request.peer.pid)"])
        return name
    }

    private func reload() async -> HTTPResponse {
        let result = await daemon.reload()
        return HTTPResponse(
            .object([
                .init("applied", .bool(result.isApplied)),
                .init("errors", .array(result.errors.map { .string($0) })),
                .init("warnings", .array(result.warnings.map { .string($0) })),
            ]), status: result.errors.isEmpty ? 200 : 422)
    }
}
