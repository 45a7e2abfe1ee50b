// The driver of SPFCheck: asks DNS what check_host() wants to know, one question after the other. Run by SessionLookups,
// which gives it its 20 seconds (RFC 7208 section 4.6.4).

internal import SlimtaDNS
internal import SlimtaMail
internal import SlimtaNet
internal import SlimtaRules
internal import SlimtaSPF

enum SPFLookups {
    /// Runs a check to its end, or until the task is cancelled. What it comes to if its time is over before is told to
    /// `interim`, at the beginning and when it changes.
    ///
    /// - Parameter clientLimit: how long the names of the client may take in all. Servers of whoever sends give them: by
    ///   their silence a `fail` would be a temperror.
    static func find(
        _ check: SPFCheck, by questions: LookupQuestions, clientLimit: Duration, interim: @Sendable (SPFFact) -> Void
    ) async -> SPFFact {
        var check = check
        var told: SPFResult?
        var clientTime = clientLimit
        while !Task.isCancelled {
            switch check.step {
            case .done(let outcome): return fact(outcome, check)
            case .lookup(let lookup):
                let outcome = check.timedOut()
                if outcome.result != told {
                    told = outcome.result
                    interim(fact(outcome, check))
                }
                guard check.asksOfClient else {
                    check.answered(await answer(to: lookup, by: questions))
                    continue
                }
                let start = ContinuousClock.now
                let given = await within(max(.zero, clientTime)) { await answer(to: lookup, by: questions) }
                clientTime -= ContinuousClock.now - start
                check.answered(given ?? .failed("no answer in time"))
            }
        }
        return fact(check.timedOut(), check)
    }

    private static func fact(_ outcome: SPFOutcome, _ check: SPFCheck) -> SPFFact {
        SPFFact(outcome.result, reason: outcome.reason, receivedSPF: outcome.receivedSPF(of: check.subject))
    }

    private static func answer(to lookup: SPFLookup, by questions: LookupQuestions) async -> SPFAnswer {
        guard let name = QueryName(octets: lookup.name) else { return .noSuchName }
        return switch lookup.type {
        case .txt: answer(await questions.txt(name)) { .texts($0) }
        case .a: answer(await questions.a(name)) { .addresses(addresses($0)) }
        case .aaaa: answer(await questions.aaaa(name)) { .addresses(addresses($0)) }
        case .mx:
            answer(await questions.mx(name)) { records in
                let sorted = records.sorted { ($0.preference, $0.exchanger) < ($1.preference, $1.exchanger) }
                return .names(sorted.map(\.exchanger))
            }
        // Name servers turn records round with each answer: the first ten are to be the same ones each time.
        case .ptr: answer(await questions.ptr(name)) { .names($0.sorted()) }
        }
    }

    private static func addresses(_ records: [ResolvedAddress]) -> [IPAddress] {
        records.compactMap { IPAddress($0.text) }
    }

    private static func answer<Record>(
        _ answer: LookupQuestions.Answer<Record>, _ meaning: ([Record]) -> SPFAnswer
    ) -> SPFAnswer {
        switch answer {
        case .success(let answer): meaning(answer.records)
        case .failure(.noSuchName), .failure(.invalidName): .noSuchName
        case .failure(let error): .failed(error.reason)
        }
    }
}
