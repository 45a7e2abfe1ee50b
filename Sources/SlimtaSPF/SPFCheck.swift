// check_host() of RFC 7208 without I/O: it says which record of DNS it needs next, is told, and in the end says what came
// of it. The driver in SlimtaEdge/Lookups asks DNS and counts the seconds.
//
//     init ──▶ step: .lookup ──answered──▶ step: .lookup … ──▶ step: .done
//
// A check walks records: that of the sender's domain, and those that `include` and `redirect` lead to. `frames` are the
// records that it is in, each within an `include` of the one before. A mechanism that needs several lookups (mx, ptr) is
// evaluated again with each answer, as far as it gets: what it was told is in `answers` until it is decided. So mechanisms
// are plain functions (SPFCheck+Mechanisms.swift), and the only state between two answers is what is declared here.
//
// What strangers can make it cost is bounded by section 4.6.4: ten terms that ask, ten hosts of an mx, ten names of a
// ptr, two lookups that find nothing. That is at most 11 policies, 10 times 11 lookups, and the client's names.

package import SlimtaMail

/// One run of `check_host()`.
package struct SPFCheck: Sendable {
    /// What it wants.
    package enum Step: Hashable, Sendable {
        /// The answer to this, and nothing before it has come.
        case lookup(SPFLookup)
        /// Nothing more.
        case done(SPFOutcome)
    }

    /// A record that is being walked.
    struct Frame: Sendable {
        /// Whose record it is.
        var domain: [UInt8]
        /// Nil until it is here.
        var record: SPFRecord?
        /// The directive that is being evaluated.
        var index = 0
        /// Whether that one was counted among the ten.
        var isCounted = false
        /// The name that its domain-spec has come to: made once, for records can be long. Outer nil: not made yet.
        var target: [UInt8]??
    }

    /// What an answer is for.
    enum Purpose: Sendable {
        /// The record of the last frame.
        case record
        /// The mechanism that is being evaluated: that it finds nothing counts (section 4.6.4).
        case mechanism
        /// A name of the client, which is not the domain's fault.
        case clientName
        /// The text for a `fail`.
        case explanation
    }

    /// Why an evaluation stops before it has an outcome.
    enum Stop: Error {
        case needs(SPFLookup, Purpose)
        case ends(SPFResult, problem: String)
    }

    /// Terms that ask DNS, in a whole check; hosts of one mx; names of a client that are looked at (section 4.6.4).
    static let mostTerms = 10
    /// Lookups without a record, in a whole check.
    static let mostVoidLookups = 2

    /// What it wants now.
    package private(set) var step: Step
    /// Whom it is about.
    package let subject: SPFSubject
    /// Whether the domain's text for a `fail` is to be fetched.
    let wantsExplanation: Bool
    var frames: [Frame] = []
    var terms = 0
    var voidLookups = 0
    /// What was answered for the mechanism that is being evaluated, and of the client's names.
    var answers: [SPFLookup: SPFAnswer] = [:]
    var clientAnswers: [SPFLookup: SPFAnswer] = [:]
    /// The text of the explanation: nil until it was answered, then nil if that was none.
    var explanationText: [UInt8]??
    /// The `fail` that is to be explained: all else is decided.
    var failure: (mechanism: String, domain: [UInt8], text: SPFMacroString)?
    private var purpose = Purpose.record

    /// Begins a check. `wantsExplanation`: somebody will read the reason of a `fail`, so that the domain's own words are
    /// worth a lookup.
    package init(
        client: IPAddress, helo: String, sender: Mailbox?, receiver: String, time: Int64, wantsExplanation: Bool
    ) {
        self.init(
            of: SPFSubject(client: client, helo: helo, sender: sender, receiver: receiver, time: time),
            wantsExplanation: wantsExplanation)
    }

    /// Begins a check of what is known already.
    package init(of subject: SPFSubject, wantsExplanation: Bool) {
        self.subject = subject
        self.wantsExplanation = wantsExplanation
        step = .done(Self.outcome(.none, of: subject))
        guard let domain = subject.firstDomain else { return }
        frames = [Frame(domain: domain)]
        proceed()
    }

    /// Whether what it wants is a name of the client, or where that leads. Whoever sends answers that, not the domain whose
    /// policy it is, and a mechanism goes on without (section 5.5): who drives a check gives it only a part of the time,
    /// or silence would make a temperror of a fail.
    package var asksOfClient: Bool {
        switch purpose {
        case .clientName: true
        case .record, .mechanism, .explanation: false
        }
    }

    /// Says what DNS says to the lookup that ``step`` has, and returns what is wanted next. Once it is done, nothing
    /// that is said changes it.
    @discardableResult
    package mutating func answered(_ answer: SPFAnswer) -> Step {
        guard case .lookup(let lookup) = step else { return step }
        do throws(Stop) {
            switch purpose {
            case .record: try read(answer)
            case .mechanism:
                answers[lookup] = answer
                try count(answer)
            case .clientName: clientAnswers[lookup] = answer
            case .explanation: explanationText = .some(answer.onlyText)
            }
            proceed()
        } catch {
            stop(error)
        }
        return step
    }

    /// What it has come to if there is no more time (section 4.6.4: temperror). A `fail` that lacks nothing but its
    /// explanation is one.
    package func timedOut() -> SPFOutcome {
        if case .done(let outcome) = step { return outcome }
        if let failure { return Self.outcome(.fail, mechanism: failure.mechanism, of: subject) }
        return SPFOutcome(
            result: .temperror, mechanism: nil, identity: subject.identity, explanation: nil,
            problem: SPFReason.timedOut, reason: SPFReason.timedOut)
    }

    // MARK: Walking

    /// Goes on until an answer is needed, or all is decided.
    private mutating func proceed() {
        do throws(Stop) {
            if failure == nil { try walk() } else { try explain() }
        } catch {
            stop(error)
        }
    }

    private mutating func stop(_ reason: Stop) {
        switch reason {
        case .needs(let lookup, let purpose):
            self.purpose = purpose
            step = .lookup(lookup)
        case .ends(let result, let problem): end(result, problem: problem)
        }
    }

    /// Walks directives until one matches in the first record, or none does.
    private mutating func walk() throws(Stop) {
        while let frame = frames.last, failure == nil {
            guard let record = frame.record else {
                throw .needs(SPFLookup(type: .txt, name: frame.domain), .record)
            }
            if frame.index < record.directives.count {
                let directive = record.directives[frame.index]
                switch try evaluate(directive) {
                case .matches: try leave(directive.result, directive.text)
                case .doesNotMatch: nextDirective()
                case .isDecided(by: let domain): frames.append(Frame(domain: domain))
                }
            } else if let redirect = record.redirect, !record.hasAll {
                try enter(redirect)
            } else {
                // Nothing matches, and nothing is said of it (section 4.7).
                try leave(.neutral, nil)
            }
        }
    }

    private mutating func nextDirective() {
        frames[frames.count - 1].index += 1
        frames[frames.count - 1].isCounted = false
        frames[frames.count - 1].target = nil
        answers = [:]
    }

    /// The record of a `redirect` takes the place of the one that has it (section 6.1).
    private mutating func enter(_ redirect: SPFMacroString) throws(Stop) {
        try countTerm()
        guard let domain = try target(redirect) else { throw .ends(.permerror, problem: "Invalid domain in redirect") }
        frames[frames.count - 1] = Frame(domain: domain)
    }

    /// The last record has come to `result`: what that means for the one that includes it (section 5.2), or for all.
    private mutating func leave(_ result: SPFResult, _ mechanism: String?) throws(Stop) {
        if frames.count == 1 { return decide(result, mechanism) }
        frames.removeLast()
        let outer = frames[frames.count - 1]
        guard result == .pass, let directive = outer.record?.directives[outer.index] else { return nextDirective() }
        answers = [:]
        try leave(directive.result, directive.text)
    }

    /// The result of all.
    private mutating func decide(_ result: SPFResult, _ mechanism: String?) {
        if result == .fail, wantsExplanation, let frame = frames.last, let text = frame.record?.explanation,
            let mechanism
        {
            failure = (mechanism, frame.domain, text)
            frames[0].target = nil
            return proceed()
        }
        end(result, mechanism: mechanism)
    }

    private mutating func end(_ result: SPFResult, mechanism: String? = nil, problem: String? = nil) {
        finish(Self.outcome(result, mechanism: mechanism, problem: problem, of: subject))
    }

    /// It is done, and holds nothing any more.
    mutating func finish(_ outcome: SPFOutcome) {
        step = .done(outcome)
        (frames, answers, clientAnswers, failure) = ([], [:], [:], nil)
    }

    static func outcome(
        _ result: SPFResult, mechanism: String? = nil, problem: String? = nil, of subject: SPFSubject
    ) -> SPFOutcome {
        SPFOutcome(
            result: result, mechanism: mechanism, identity: subject.identity, explanation: nil, problem: problem,
            reason: SPFReason.of(result, problem: problem))
    }

    // MARK: Records and limits

    /// The TXT records of the last frame's domain (sections 4.4 and 4.5).
    private mutating func read(_ answer: SPFAnswer) throws(Stop) {
        let domain = SPFText.printable(frames[frames.count - 1].domain, limit: SPFName.longest)
        var policies: [[UInt8]] = []
        switch answer {
        case .texts(let texts): policies = texts.filter(SPFRecord.isPolicy)
        case .failed(let why):
            throw .ends(.temperror, problem: "TXT of \(domain): \(SPFText.printable(why.utf8, limit: 100))")
        case .noSuchName, .addresses, .names: break
        }
        guard policies.count <= 1 else { throw .ends(.permerror, problem: "Two or more SPF records at \(domain)") }
        guard let policy = policies.first else {
            // The sender's domain need not have one; one that a record names has to (sections 5.2 and 6.1).
            if frames.count == 1, terms == 0 { return finish(Self.outcome(.none, of: subject)) }
            throw .ends(.permerror, problem: "No SPF record at \(domain)")
        }
        do throws(SPFSyntaxError) {
            frames[frames.count - 1].record = try SPFRecord(parsing: policy)
        } catch {
            throw .ends(.permerror, problem: "\(error.problem) (in the record of \(domain))")
        }
    }

    /// Counts a term that asks DNS.
    mutating func countTerm() throws(Stop) {
        guard !frames[frames.count - 1].isCounted else { return }
        frames[frames.count - 1].isCounted = true
        terms += 1
        if terms > Self.mostTerms { throw .ends(.permerror, problem: "Too many DNS lookups") }
    }

    /// Counts an answer without a record. It ends the check at once, also where nothing would be asked any more.
    private mutating func count(_ answer: SPFAnswer) throws(Stop) {
        guard answer.isVoid else { return }
        voidLookups += 1
        if voidLookups > Self.mostVoidLookups { throw .ends(.permerror, problem: "Too many void DNS lookups") }
    }
}

extension SPFAnswer {
    /// Whether there is no record, and DNS is sure of it.
    var isVoid: Bool {
        switch self {
        case .texts(let texts): texts.isEmpty
        case .addresses(let addresses): addresses.isEmpty
        case .names(let names): names.isEmpty
        case .noSuchName: true
        case .failed: false
        }
    }

    /// The text of an explanation: there has to be one, and one only (section 6.2).
    fileprivate var onlyText: [UInt8]? {
        if case .texts(let texts) = self, texts.count == 1 { texts[0] } else { nil }
    }
}
