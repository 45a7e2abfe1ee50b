// Everything that a decision about a host may depend on, each in every form that matters: the product of it, and which of
// two cases is the stronger one. HostSecurityTests goes through all of it.

import SlimtaTLS

@testable import SlimtaRelay

/// One case of all.
struct SecurityCase: Hashable, CustomStringConvertible {
    enum TLSA: Int, CaseIterable {
        case absent, unusable, usable, failed, unvalidated
    }

    enum STS: Int, CaseIterable {
        case none, testing, enforce
    }

    var origin = RelayOrigin.domain
    var floor = TLSFloor.opportunistic
    var message = MessageDemand.nothing
    var isTrusted = false
    var tlsa = TLSA.absent
    var sts = STS.none
    var isInPolicy = true
    var isRemembered = false
    var hadDANE = false
    var hasCredentials = false

    static let host = "mx.example.com"
    static let anchor = TLSARecord(usage: 2, selector: 0, matching: 1, data: Array(repeating: 1, count: 32))
    static let ours = TLSARecord(usage: 3, selector: 1, matching: 1, data: Array(repeating: 2, count: 32))
    static let useless = TLSARecord(usage: 1, selector: 1, matching: 1, data: Array(repeating: 3, count: 32))

    static func policy(_ mode: STSPolicy.Mode, names host: Bool = true) -> STSPolicy {
        let pattern = STSPattern(host ? Self.host : "other.example.com")
        return STSPolicy(mode: mode, patterns: pattern.map { [$0] } ?? [], maxAge: 86_400, lines: [])
    }

    var domain: DomainSecurity {
        let standing: STSStanding =
            switch sts {
            case .none: .none
            case .testing: .testing(Self.policy(.testing, names: isInPolicy))
            case .enforce: .enforce(Self.policy(.enforce, names: isInPolicy))
            }
        return DomainSecurity(
            origin, "example.com", canonicalDomain: "canonical.example", isTrusted: isTrusted, sts: standing,
            floor: floor,
            hasCredentials: hasCredentials, message: message)
    }

    var finding: HostFinding {
        let found: TLSAFinding =
            switch tlsa {
            case .absent: .absent
            case .unusable: .present(base: "base.example.com", [Self.useless])
            case .usable: .present(base: "base.example.com", [Self.useless, Self.anchor, Self.ours])
            case .failed: .failed(name: "_25._tcp.mx.example.com", why: "SERVFAIL")
            case .unvalidated: .unvalidated
            }
        let memory = MemoryStanding(encrypted: isRemembered ? .init(days: 41, last: 20_000) : nil, hadDANE: hadDANE)
        return HostFinding(Self.host, tlsa: found, memory: memory)
    }

    var decision: HostSecurity { HostSecurity(of: finding, in: domain) }

    var description: String {
        "\(origin) floor \(floor) message \(message) trusted \(isTrusted) tlsa \(tlsa) sts \(sts) inPolicy \(isInPolicy) "
            + "remembered \(isRemembered) hadDANE \(hadDANE) credentials \(hasCredentials)"
    }

    // MARK: All of them

    static let all: [SecurityCase] = {
        var cases = [SecurityCase()]
        func vary<Value>(_ path: WritableKeyPath<SecurityCase, Value>, _ values: [Value]) {
            cases = cases.flatMap { one in
                values.map { value in
                    var copy = one
                    copy[keyPath: path] = value
                    return copy
                }
            }
        }
        vary(\.origin, RelayOrigin.allCases)
        vary(\.floor, TLSFloor.allCases)
        vary(\.message, MessageDemand.allCases)
        vary(\.isTrusted, [false, true])
        vary(\.tlsa, TLSA.allCases)
        vary(\.sts, STS.allCases)
        vary(\.isInPolicy, [false, true])
        vary(\.isRemembered, [false, true])
        vary(\.hadDANE, [false, true])
        vary(\.hasCredentials, [false, true])
        // A literal has no names, so nothing is published for it.
        return cases.filter { $0.origin != .literal || ($0.tlsa == .absent && $0.sts == .none) }
    }()

    /// The same with one thing a step stronger, for each thing that can be.
    var stronger: [SecurityCase] {
        var found: [SecurityCase] = []
        func add(_ change: (inout SecurityCase) -> Void) {
            var copy = self
            change(&copy)
            if copy != self { found.append(copy) }
        }
        if let next = TLSFloor.allCases.first(where: { $0 > floor }) { add { $0.floor = next } }
        if let next = MessageDemand.allCases.first(where: { $0 > message }) { add { $0.message = next } }
        add { $0.isTrusted = true }
        // Nothing is known is no weaker and no stronger than anything that is.
        if origin != .literal {
            if tlsa.rawValue < TLSA.failed.rawValue { add { $0.tlsa = TLSA(rawValue: tlsa.rawValue + 1) ?? tlsa } }
            if sts != .enforce { add { $0.sts = STS(rawValue: sts.rawValue + 1) ?? sts } }
        }
        add { $0.isRemembered = true }
        add { $0.hadDANE = true }
        add { $0.hasCredentials = true }
        return found
    }

    // MARK: What a plan is worth

    /// What is certain of mail that leaves.
    enum Fact: CaseIterable {
        /// TLS is spoken where it is offered.
        case tried
        case encrypted
        /// Only the host of that name can read it.
        case thatHost
        /// And that host is one of the recipient's domain.
        case theirs
    }

    /// Of mail that does not leave everything is certain.
    var facts: Set<Fact> {
        guard case .plan(let plan) = decision.verdict else { return Set(Fact.allCases) }
        var facts: Set<Fact> = []
        switch plan.encryption {
        case .never: return []
        case .ifOffered: return [.tried]
        case .always: facts = [.tried, .encrypted]
        }
        let isProved = isTrusted || origin != .domain
        if plan.dane != nil {
            facts.insert(.thatHost)
            if isProved { facts.insert(.theirs) }
        }
        if plan.pkixName != nil {
            facts.insert(.thatHost)
            if isProved || (sts == .enforce && isInPolicy && message != .tlsNotRequired) { facts.insert(.theirs) }
        }
        return facts
    }

    // MARK: The specification

    /// The row of the specification's table (relay-security.md section 1.4) that fits, read on its own; nil: no host to plan
    /// for.
    var row: Int? {
        let floor = hasCredentials && self.floor < .verify ? TLSFloor.verify : self.floor
        if floor == .none { return 1 }
        if message == .tlsNotRequired { return byFloor(floor) }
        if tlsa == .failed || (tlsa == .unvalidated && hadDANE) { return nil }
        let isTrusted = self.isTrusted || origin != .domain
        let isEnforced = sts == .enforce
        if isEnforced, !isInPolicy, !(isTrusted && tlsa == .usable) { return nil }
        if tlsa == .usable, !isEnforced || isTrusted {
            // Section 1.2: without a proved MX it never satisfies a floor of `dane`.
            return floor == .dane && !isTrusted ? 8 : 3
        }
        if tlsa == .usable { return 4 }
        if floor == .dane { return 8 }
        if tlsa == .unusable, isEnforced { return 5 }
        if isEnforced { return 7 }
        if floor == .verify { return 9 }
        if tlsa == .unusable { return 6 }
        return isRemembered || floor == .required ? 10 : 11
    }

    /// Row 2.
    private func byFloor(_ floor: TLSFloor) -> Int? {
        switch floor {
        case .none: 1
        case .opportunistic: 11
        case .required: 10
        case .verify: 9
        case .dane where tlsa == .failed: nil
        case .dane: tlsa == .usable && (isTrusted || origin != .domain) ? 3 : 8
        }
    }

    /// What a row says.
    func plan(of row: Int) -> TLSPlan? {
        let demand = TLSPlan.DANE(
            base: "base.example.com", names: ["example.com", "canonical.example"], records: [Self.anchor, Self.ours])
        return switch row {
        case 1: TLSPlan(.never, serverName: nil)
        case 3: TLSPlan(.always, dane: demand, serverName: "base.example.com")
        case 4: TLSPlan(.always, dane: demand, pkixName: Self.host, serverName: "base.example.com")
        case 5, 7, 9: TLSPlan(.always, pkixName: Self.host, serverName: Self.host)
        case 6, 10: TLSPlan(.always, serverName: Self.host)
        case 11: TLSPlan(.ifOffered, serverName: Self.host)
        default: nil
        }
    }

    /// Whether REQUIRETLS is served by the row.
    func servesRequireTLS(_ row: Int) -> Bool {
        switch row {
        case 4, 5, 7: true
        case 3, 9: isTrusted || origin != .domain
        default: false
        }
    }
}
