// Which policy counts for a domain's mail now, and what has to be asked to know: a value that wants an answer or has the
// result (RFC 8461 sections 3 and 5). Driven for each attempt before a connection is taken; the same for a refresh.
//
//   TXT record ──same id, in force──────────────────────────────────▶ the kept policy
//        │ ╲──none, broken, no answer──────────────────────────────▶ the kept policy while in force, else none
//        ▼ another id, or nothing kept
//      fetch ──a policy──▶ that one, kept            not again for five minutes where it failed for this id
//        ╲──failed───────────────────────────────────────────────▶ the kept policy while in force, else none
//
// Taking the record away, or keeping us from the web server, ends no policy: only time and another policy do. So nobody on the
// way can.

import SlimtaMail

/// The check of one domain.
struct STSCheck: Sendable {
    enum Step: Hashable, Sendable {
        /// The TXT records of this name are wanted.
        case askRecord(String)
        /// The policy is wanted from this host, over HTTPS (``STSFetch``).
        case fetch(host: String)
        case done(Outcome)
    }

    /// What counts, and what is to be kept of it.
    struct Outcome: Hashable, Sendable {
        /// nil: no policy is in force.
        var policy: STSPolicy?
        var change = Change.none
        /// To be counted in a report, though mail goes on.
        var failure: TLSResult?

        var standing: STSStanding { STSStanding(policy) }
    }

    /// What becomes of what is kept.
    enum Change: Hashable, Sendable {
        case none
        case keep(STSCachedPolicy)
        /// It has ended.
        case remove
    }

    /// What failed a short time ago.
    struct FailedFetch: Hashable, Sendable {
        let id: String
        let time: Timestamp
    }

    /// The answer to ``Step/askRecord(_:)``.
    enum RecordAnswer: Hashable, Sendable {
        /// The strings of each in one; empty: there is no such name, or no TXT record.
        case records([[UInt8]])
        case failed(String)
    }

    /// How long a domain's server is left in peace after a failure.
    static let pause: Duration = .seconds(300)
    private static let noteOfUse: Duration = .seconds(86_400)

    private(set) var step: Step
    /// The last one that failed, for the next check; nil: none did.
    private(set) var failedFetch: FailedFetch?
    private let domain: String
    private let kept: STSCachedPolicy?
    private let now: Timestamp
    /// A refresh fetches whatever the id is.
    private let isRefresh: Bool
    private var id = ""

    /// - Parameters:
    ///   - domain: the recipient's, in A-labels.
    ///   - kept: what is known of it, in force or not.
    init(
        _ domain: String, kept: STSCachedPolicy?, failedFetch: FailedFetch? = nil, at now: Timestamp,
        isRefresh: Bool = false
    ) {
        self.domain = domain
        self.kept = kept?.corrected(at: now)
        self.failedFetch = failedFetch
        self.now = now
        self.isRefresh = isRefresh
        step = .askRecord(STSFetch.recordName(of: domain))
    }

    /// What DNS answered.
    mutating func answered(_ answer: RecordAnswer) {
        guard case .askRecord = step else { return }
        switch answer {
        case .failed(let why):
            step = .done(fallback(failure: inForce == nil ? TLSResult(.policyFetchError, of: .sts, reason: why) : nil))
        case .records(let records):
            switch STSRecord.finding(among: records) {
            case .absent: step = .done(fallback())
            case .unusable(let fault):
                step = .done(fallback(failure: TLSResult(.policyInvalid, of: .sts, reason: fault.description)))
            case .record(let record): found(record.id)
            }
        }
    }

    private mutating func found(_ id: String) {
        self.id = id
        if !isRefresh, let inForce, inForce.id == id {
            step = .done(fallback())
        } else if let last = failedFetch, last.id == id, now - last.time < Self.pause, last.time <= now {
            step = .done(fallback())
        } else {
            step = .fetch(host: STSFetch.host(of: domain))
        }
    }

    /// What the web server answered, or why it did not: its octets, which ``STSFetch/policy(status:mediaType:body:)`` has read.
    mutating func fetched(_ answer: Result<[UInt8], STSFetch.Failure>) {
        guard case .fetch = step else { return }
        let failure: STSFetch.Failure
        switch answer {
        case .success(let octets):
            do throws(STSPolicyFault) {
                let new = try STSCachedPolicy(octets, id: id, fetched: now, lastUsed: isRefresh ? lastUsed : now)
                failedFetch = nil
                // With an age of 0 it counts for this attempt alone, and the one before it is over.
                let change: Change = new.isInForce(at: now) ? .keep(new) : kept == nil ? .none : .remove
                step = .done(Outcome(policy: new.policy, change: change))
                return
            } catch { failure = .contents(error) }
        case .failure(let why): failure = why
        }
        failedFetch = FailedFetch(id: id, time: now)
        step = .done(fallback(failure: failure.result))
    }

    private var lastUsed: Timestamp { kept?.lastUsed ?? now }

    private var inForce: STSCachedPolicy? { kept.flatMap { $0.isInForce(at: now) ? $0 : nil } }

    /// What was kept, while it is in force.
    private func fallback(failure: TLSResult? = nil) -> Outcome {
        guard var inForce else { return Outcome(change: kept == nil ? .none : .remove, failure: failure) }
        // When it was used last is for who refreshes and who makes room, not worth a write for each message.
        guard !isRefresh, now - inForce.lastUsed >= Self.noteOfUse else {
            return Outcome(policy: inForce.policy, failure: failure)
        }
        inForce.lastUsed = now
        return Outcome(policy: inForce.policy, change: .keep(inForce), failure: failure)
    }
}
