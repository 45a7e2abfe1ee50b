// What each mechanism compares (RFC 7208 section 5), and the text for a `fail` (section 6.2). Each function here can be
// called again with one answer more: it asks for the first that it lacks.

import SlimtaMail

extension SPFCheck {
    /// What came of a mechanism.
    enum Verdict {
        case matches
        case doesNotMatch
        /// The record of this domain decides.
        case isDecided(by: [UInt8])
    }

    /// Evaluates the directive that the last frame is at.
    mutating func evaluate(_ directive: SPFDirective) throws(Stop) -> Verdict {
        if directive.mechanism.isCounted { try countTerm() }
        switch directive.mechanism {
        case .all: return .matches
        case .ip4(let network), .ip6(let network): return network.contains(subject.client) ? .matches : .doesNotMatch
        case .include(let text):
            guard let domain = try target(text) else {
                throw .ends(.permerror, problem: "Invalid domain in \(directive.text)")
            }
            return .isDecided(by: domain)
        case .a(let text, let prefixes):
            guard let name = try target(text) else { return .doesNotMatch }
            return try isAmongAddresses(of: name, prefixes) ? .matches : .doesNotMatch
        case .mx(let text, let prefixes): return try isAmongExchangers(text, prefixes) ? .matches : .doesNotMatch
        case .exists(let text):
            guard let name = try target(text) else { return .doesNotMatch }
            // Whatever the client is: of IPv4 (section 5.7).
            return try !addresses(.a, of: name).isEmpty ? .matches : .doesNotMatch
        case .ptr(let text):
            guard let name = try target(text) else { return .doesNotMatch }
            let names = try clientNames().filter { SPFName.isWithin($0, name) }
            return try firstConfirmed(of: names) == nil ? .doesNotMatch : .matches
        }
    }

    // MARK: Names

    /// The name that a domain-spec comes to, or the record's own; nil if DNS cannot carry it.
    mutating func target(_ text: SPFMacroString?) throws(Stop) -> [UInt8]? {
        let frame = frames[frames.count - 1]
        guard let text else { return frame.domain }
        if let target = frame.target { return target }
        let name = text.name(try values(for: text, domain: frame.domain))
        frames[frames.count - 1].target = .some(name)
        return name
    }

    /// What macros stand for in a text of `domain`. Only for the macro p DNS has to be asked.
    private func values(for text: SPFMacroString, domain: [UInt8]) throws(Stop) -> SPFMacroValues {
        let name = text.needsValidatedName ? try validatedName(domain) : Array("unknown".utf8)
        return SPFMacroValues(subject: subject, domain: domain, validatedName: name)
    }

    // MARK: Addresses

    /// Whether the client is in the network of an address that `name` has.
    private func isAmongAddresses(of name: [UInt8], _ prefixes: SPFPrefixes) throws(Stop) -> Bool {
        let addresses = try addresses(subject.client.isIPv4 ? .a : .aaaa, of: name)
        guard !addresses.isEmpty, let network = prefixes.network(of: subject.client) else { return false }
        return addresses.contains { network.contains($0) }
    }

    private func addresses(_ type: SPFLookup.RecordType, of name: [UInt8]) throws(Stop) -> [IPAddress] {
        switch try answer(to: SPFLookup(type: type, name: name)) {
        case .addresses(let addresses): addresses
        case .texts, .names, .noSuchName, .failed: []
        }
    }

    /// Whether the client is in the network of one of the hosts that take the mail of a domain (section 5.4). A domain
    /// without an MX record has none, and is not one itself.
    private mutating func isAmongExchangers(
        _ text: SPFMacroString?, _ prefixes: SPFPrefixes
    ) throws(Stop) -> Bool {
        guard let name = try target(text), case .names(let hosts) = try answer(to: SPFLookup(type: .mx, name: name))
        else { return false }
        guard hosts.count <= Self.mostTerms else { throw .ends(.permerror, problem: "Too many MX records") }
        for host in hosts {
            // The null MX (RFC 7505) has no host, and no lookup.
            guard let host = SPFName.queried(Array(host.utf8)) else { continue }
            if try isAmongAddresses(of: host, prefixes) { return true }
        }
        return false
    }

    /// An answer that the mechanism depends on: nobody could say is temperror (section 5).
    private func answer(to lookup: SPFLookup) throws(Stop) -> SPFAnswer {
        guard let answer = answers[lookup] else { throw .needs(lookup, .mechanism) }
        if case .failed(let why) = answer {
            let name = SPFText.printable(lookup.name, limit: SPFName.longest)
            throw .ends(.temperror, problem: "Lookup of \(name): \(SPFText.printable(why.utf8, limit: 100))")
        }
        return answer
    }

    // MARK: The client's names

    /// The names that the client's address has, confirmed or not, the first ten (section 4.6.4); none if nobody could say
    /// (section 5.5).
    private func clientNames() throws(Stop) -> [[UInt8]] {
        let lookup = SPFLookup(type: .ptr, name: SPFName.reverse(subject.client))
        guard let answer = clientAnswers[lookup] else { throw .needs(lookup, .clientName) }
        guard case .names(let names) = answer else { return [] }
        return names.prefix(Self.mostTerms).compactMap { SPFName.queried(Array($0.utf8)) }
    }

    /// The first of `names` among whose addresses the client is. One that nobody could look up is passed over.
    private func firstConfirmed(of names: [[UInt8]]) throws(Stop) -> [UInt8]? {
        for name in names {
            let lookup = SPFLookup(type: subject.client.isIPv4 ? .a : .aaaa, name: name)
            guard let answer = clientAnswers[lookup] else { throw .needs(lookup, .clientName) }
            if case .addresses(let addresses) = answer, addresses.contains(subject.client) { return name }
        }
        return nil
    }

    /// The macro p: the domain itself if it is a confirmed name of the client, else one below it, else any (section 7.3).
    private func validatedName(_ domain: [UInt8]) throws(Stop) -> [UInt8] {
        let names = try clientNames()
        let itself = names.filter { SPFName.areSame($0, domain) }
        let below = names.filter { SPFName.isWithin($0, domain) && !SPFName.areSame($0, domain) }
        let others = names.filter { !SPFName.isWithin($0, domain) }
        return try firstConfirmed(of: itself + below + others) ?? Array("unknown".utf8)
    }

    // MARK: Explanations

    /// Gets the domain's text for the `fail` that all has come to. Whatever is wrong with it, the result stays.
    mutating func explain() throws(Stop) {
        guard let failure else { return }
        var outcome = Self.outcome(.fail, mechanism: failure.mechanism, of: subject)
        if let explanation = try explanation(failure.text, failure.domain) {
            outcome = SPFOutcome(
                result: .fail, mechanism: failure.mechanism, identity: subject.identity, explanation: explanation,
                problem: nil, reason: SPFReason.explained(by: failure.domain, explanation))
        }
        finish(outcome)
    }

    private mutating func explanation(_ spec: SPFMacroString, _ domain: [UInt8]) throws(Stop) -> String? {
        guard let name = try target(spec) else { return nil }
        guard let answered = explanationText else {
            throw .needs(SPFLookup(type: .txt, name: name), .explanation)
        }
        guard let octets = answered, let text = SPFMacroString(octets, in: .explanation) else { return nil }
        let words = text.text(try values(for: text, domain: domain), limit: SPFExplanation.longest)
        return words.isEmpty ? nil : SPFText.printable(words, limit: SPFExplanation.longest)
    }
}

/// How much of a domain's own words is told.
enum SPFExplanation {
    static let longest = 200
}
