// The keys as operators see them.

import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaMail
import SlimtaPolicy

extension SigningKey {
    /// What is to be seen of the key itself.
    func report(_ life: SigningReport.Life? = nil) -> SigningReport.Key {
        key.report(name, isOurs: made != nil, life)
    }
}

extension DKIMSigningKey {
    fileprivate func report(_ name: SelectorName, isOurs: Bool, _ life: SigningReport.Life?) -> SigningReport.Key {
        SigningReport.Key(
            domain: name.domain, selector: name.selector, algorithm: name.algorithm.rawValue, bits: publicKey.bits,
            recordName: name.recordName, record: publicKey.record, zoneLine: publicKey.zoneLine(name.recordName),
            isOurs: isOurs, life: life)
    }
}

extension SigningBook {
    /// All of them.
    func report() -> SigningReport {
        let signing = Set(
            settings.names.flatMap { domain -> [SelectorName] in
                guard case .sign(let signers) = choice(for: domain) else { return [] }
                return signers.compactMap {
                    SelectorName(domain: $0.domain, selector: $0.selector, algorithm: $0.key.algorithm)
                }
            })
        let keys = held.sorted { $0.key < $1.key }.map { name, held in
            held.key.report(
                name, isOurs: held.isOurs,
                table.states[name].map { life($0, signs: signing.contains(name), isOurs: held.isOurs) })
        }
        return SigningReport(
            domains: settings.names.sorted().map { .init(name: $0, mail: ways[$0]?.word ?? "refused") }, keys: keys,
            warnings: warnings)
    }

    private func life(_ state: SelectorState, signs: Bool, isOurs: Bool) -> SigningReport.Life {
        var isUnanswered = false
        if case .unknown = verdicts[state.name] { isUnanswered = true }
        return SigningReport.Life(
            state: state.phase.rawValue, since: state.since, signs: signs, signed: state.lastSigned,
            isRecordRight: state.isRecordRight, record: verdicts[state.name]?.description,
            isUnanswered: isUnanswered, answered: state.isRecordRight == nil ? nil : state.recordLast,
            nextQuestion: state.nextQuestion,
            advice: advice(state, isOurs: isOurs))
    }

    /// What comes next, or is to be done.
    private func advice(_ state: SelectorState, isOurs: Bool) -> String? {
        let next = state.nextPhase(table.times)?.isoDate ?? ""
        switch state.phase {
        case .made where table.states.values.contains(where: { $0.isActiveSuccessor(of: state) }):
            return "a newer one signs: this one never will" + (isOurs ? ", and its file may be deleted" : "")
        case .made: return "it signs when DNS has had its record for an hour or more: publish it"
        case .seen: return "it signs from \(next) on, if the record stays right"
        case .active: return state.isRecordRight == false ? "the record has to be right again within 15 minutes" : nil
        case .failing: return "it signs no more until the record is right"
        case .retiring: return "mail that it has signed is under way: the record has to stay until \(next)"
        case .old:
            return isOurs
                ? "remove its record from DNS: the key is deleted when that is gone"
                : "remove its record from DNS, and its table from slimta.conf"
        }
    }

    /// What is wrong.
    private var warnings: [String] {
        let domains = ways.sorted { $0.key < $1.key }.compactMap { domain, way -> String? in
            switch way {
            case .signed: nil
            case .early: "mail from \(domain) is signed, and DNS has not shown the key for long enough yet (gate)"
            case .refused(let name):
                "mail from \(domain) is refused with 451: DNS does not show "
                    + (name.map { "\($0), or not for long enough" } ?? "a key of it") + "; see slimtad dkim show"
            }
        }
        let keys = table.states.values.sorted { $0.name < $1.name }.compactMap { state -> String? in
            if state.isStale { return "DNS does not say anything of \(state.name) since \(state.recordLast.isoDate)" }
            let isNeeded = [.active, .failing, .retiring].contains(state.phase)
            guard isNeeded, let verdict = verdicts[state.name] else { return nil }
            if state.isRecordRight == false || state.isTesting { return "\(state.name): the record \(verdict)" }
            return nil
        }
        return domains + keys
    }
}

extension SigningBook.Way {
    /// As ``SigningReport/Domain/mail`` has it.
    fileprivate var word: String {
        switch self {
        case .signed: "signed"
        case .early: "early"
        case .refused: "refused"
        }
    }
}
