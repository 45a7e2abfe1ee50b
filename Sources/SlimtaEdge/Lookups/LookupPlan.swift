// What it takes to know a fact about a client and what it has said: nothing, or which lookup. Made by SessionLookups for
// each fact that is asked for; it decides who is not asked about at all.

internal import SlimtaDNS
internal import SlimtaMail
internal import SlimtaRules
internal import SlimtaSPF

/// What is to be done for one fact.
enum LookupPlan {
    /// Asks name servers. Ends early if its task is cancelled; nobody wants the value then.
    typealias Work = @Sendable (Interim) async -> LookupValue

    /// What a fact is about: it is looked up once for each.
    enum Key: Hashable, Sendable {
        case client
        case name(String)
        case identity(ehlo: String?, Facts.Sender)
        /// Nobody is asked.
        case nothing
    }

    /// The client of a session.
    struct Client: Sendable {
        let endpoint: ConnectionFacts.Endpoint
        /// Whether it may send without having authenticated: lists of addresses say nothing about it that matters.
        let isTrusted: Bool
    }

    /// The client has not said yet what it is about.
    case later
    case known(Key, LookupValue)
    /// To be given up after a time.
    case lookUp(Key, Duration, Work)

    var key: Key? {
        switch self {
        case .later: nil
        case .known(let key, _), .lookUp(let key, _, _): key
        }
    }

    init(_ fact: Fact, about subject: LookupSubject, of client: Client, _ lookups: Lookups) {
        switch fact {
        case .ptr: self = .ptr(client, lookups)
        case .spf: self = .spf(subject, client, lookups)
        case .dnsbl(let name):
            if let watch = lookups.watches[name] {
                self = .listing(watch, subject, client, lookups)
            } else {
                self = .known(.nothing, .listing(.failed("there is no such list")))
            }
        }
    }

    private static func ptr(_ client: Client, _ lookups: Lookups) -> LookupPlan {
        guard let address = client.endpoint.address else {
            return .known(.nothing, .ptr(PTRFact()))
        }
        guard let name = ReverseName.name(of: address) else { return .known(.nothing, .ptr(PTRFact())) }
        let questions = lookups.questions(for: client.endpoint)
        let work = shared(.ptr, name, by: questions, lookups) { _ in
            .ptr(await ClientNames.find(address, at: name, by: questions))
        }
        return .lookUp(.client, lookups.settings.ptrTimeout, work)
    }

    private static func listing(
        _ watch: BlockListWatch, _ subject: LookupSubject, _ client: Client, _ lookups: Lookups
    ) -> LookupPlan {
        let list = watch.list
        let nothing = LookupPlan.known(.nothing, .listing(.notListed))
        // What they say in EHLO is what their laptop is called, and where they are is where they happen to be.
        if subject.isAuthenticated && !list.asksForAuthenticated { return nothing }
        let (key, name): (Key, QueryName?)
        switch list.of {
        case .client:
            guard !client.isTrusted, let address = client.endpoint.address else { return nothing }
            (key, name) = (.client, list.question(about: address))
        case .sender:
            switch subject.sender {
            case nil: return .later
            case .null: return nothing
            case .mailbox(let sender):
                (key, name) = (.name(sender.foldedDomain), list.question(about: sender.foldedDomain))
            }
        case .ehlo:
            guard let ehlo = subject.ehlo else { return .later }
            (key, name) = (.name(ehlo), list.question(about: ehlo))
        }
        guard let name else { return nothing }
        guard watch.isInOrder else { return .known(key, .listing(BlockListLookup.outOfOrder)) }
        let questions = lookups.questionsToLists(for: client.endpoint)
        let work = shared(.dnsbl(list.name), name, by: questions, lookups) { interim in
            .listing(
                await BlockListLookup.find(name, in: watch, by: questions) { interim.become(.listing($0)) })
        }
        return .lookUp(key, list.timeout, work)
    }

    /// `work`, or that of another session of the same place about the same name: whoever connects a hundred times at once is
    /// asked about once, and does not fill its part of the line, in which case nobody would know that it is listed.
    private static func shared(
        _ fact: Fact, _ name: QueryName, by questions: LookupQuestions, _ lookups: Lookups, _ work: @escaping Work
    ) -> Work {
        let key = SharedLookups.Key(fact: fact, name: name, source: questions.source)
        return { [shared = lookups.shared] interim in
            await shared.value(of: key, interim, work) ?? .failed(fact, "nobody waits for it")
        }
    }

    private static func spf(
        _ subject: LookupSubject, _ client: Client, _ lookups: Lookups
    ) -> LookupPlan {
        guard let sender = subject.sender else { return .later }
        guard let address = client.endpoint.address else {
            return .known(.nothing, .spf(SPFFact(.none, reason: "")))
        }
        let settings = lookups.settings
        let questions = lookups.questions(for: client.endpoint)
        return .lookUp(.identity(ehlo: subject.ehlo, sender), settings.spfTimeout) { interim in
            let check = SPFCheck(
                client: address, helo: subject.ehlo ?? "", sender: sender.mailbox, receiver: settings.hostname,
                time: Timestamp.now().seconds, wantsExplanation: settings.explainsSPF)
            return .spf(
                await SPFLookups.find(check, by: questions, clientLimit: settings.spfTimeout / 4) {
                    interim.become(.spf($0))
                })
        }
    }
}

extension Facts.Sender {
    fileprivate var mailbox: Mailbox? {
        switch self {
        case .null: nil
        case .mailbox(let mailbox): mailbox
        }
    }
}
