// A host's TLSA records, as TLSALookup wants them asked for. For HostDecisions.

import SlimtaDNS
import SlimtaTLS

extension HostLookup {
    /// What was found of the TLSA records of a host (RFC 7672 section 2.2), whose addresses were found so.
    func tlsa(of host: String, _ found: Found) async -> TLSAFinding {
        if let known = knownTLSA(of: host) { return known }
        let validates: Bool
        switch await resolver.validation {
        case .working: validates = true
        case .unavailable: validates = false
        // The operator wants it so.
        case .off: return .absent
        }
        var lookup = TLSALookup(
            host: host, port: port,
            .init(isSecure: found.security == .secure, canonicalName: found.canonicalName), validates: validates)
        var ttl = Self.maximumAge
        while true {
            switch lookup.step {
            case .askAlias(let name): lookup.aliasAnswered(await isAliasProved(name))
            case .ask(let name):
                let (answer, age) = await records(name)
                ttl = min(ttl, age)
                lookup.answered(answer)
            case .done(let finding):
                remember(finding, of: host, ttl: ttl)
                return finding
            }
        }
    }

    private func isAliasProved(_ name: String) async -> Result<Bool, TLSALookup.Unanswered> {
        do throws(DNSError) {
            let answer = try await resolver.cname(name)
            return .success(answer.security == .secure && !answer.records.isEmpty)
        } catch {
            return error.isNothing ? .success(false) : .failure(.init(why: error.reason))
        }
    }

    private func records(_ name: String) async -> (TLSALookup.Answer, ttl: UInt32) {
        do throws(DNSError) {
            let answer = try await resolver.tlsa(name)
            // What is too short to be one was meant to be one: it is of no use, and it is there.
            let records = answer.records.map { data in
                TLSARecord(rdata: data) ?? TLSARecord(usage: .max, selector: 0, matching: 0, data: data)
            }
            let isSecure = answer.security == .secure
            return (records.isEmpty ? .nothing : .records(records, isSecure: isSecure), answer.ttl)
        } catch {
            return (error.isNothing ? .nothing : .failed(error.reason), Self.maximumAge)
        }
    }
}

extension DNSError {
    /// Whether it says that there is nothing.
    fileprivate var isNothing: Bool {
        switch self {
        case .noSuchName, .invalidName: true
        case .temporary, .bogus: false
        }
    }
}
