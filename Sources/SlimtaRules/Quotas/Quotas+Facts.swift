// What operators are shown of senders: `slimtad login`, and the warnings of `slimtad status`.

package import SlimtaMail

/// One sender, for who asks.
package struct QuotaFacts: Sendable {
    /// Who it is.
    package var subject: QuotaSubject
    /// When it was first seen.
    package var since: Timestamp
    /// When it last sent.
    package var last: Timestamp
    /// What was counted within an hour.
    package var hour: QuotaAmounts
    /// What was counted within a day.
    package var day: QuotaAmounts
    /// Recipients that are not new to it.
    package var known: Int
    /// Of the last hundred recipients, or less, those that were refused for good.
    package var refused: (count: Int, of: Int)
    /// nil: it is not held.
    package var hold: QuotaHold?
    /// Until when the breaker is off; nil: it is not.
    package var forgivenUntil: Timestamp?
    /// Whether it is new as yet, so that the breaker does not hold it.
    package var isLearning: Bool
    /// What it is held to.
    package var limits: QuotaLimits
    /// The soft limits that it is over.
    package var exceeded: [QuotaExcess]
}

extension Quotas {
    /// What is known of one; nil: nothing.
    package func facts(of subject: QuotaSubject, at time: Timestamp) -> QuotaFacts? {
        accounts[subject].map { facts(subject, $0, at: time) }
    }

    /// Those that are held. Looks at all, if there is one.
    package var holds: [QuotaSubject: QuotaHold] { held == 0 ? [:] : accounts.compactMapValues(\.hold) }

    /// A name for a hold that no other has, nor did, as 256 bits.
    package func name(of hold: QuotaHold, _ subject: QuotaSubject) -> SIMD4<UInt64> {
        var name = SIMD4<UInt64>()
        for part in 0..<4 {
            var text = "\(part) \(subject.isLogin) \(hold.since.milliseconds) \(subject)"
            name[part] = text.withUTF8 { digest(UnsafeRawBufferPointer($0)) }
        }
        return name
    }

    /// At most `limit`: who is held, then who is over soft limits, then who has most recipients within a day.
    package func facts(limit: Int, isOnlyHeld: Bool, at time: Timestamp) -> [QuotaFacts] {
        let now = time.short
        let ranked = accounts.filter { !isOnlyHeld || $0.value.hold != nil }.map { subject, account in
            (subject, account.hold != nil ? 2 : account.told != 0 ? 1 : 0, account.sums(at: now).day.recipients)
        }.sorted { a, b in
            (a.1, a.2, b.0.description) > (b.1, b.2, a.0.description)
        }
        return ranked.prefix(limit).compactMap { facts(of: $0.0, at: time) }
    }

    /// What is out of the ordinary now: who is held, and who is over a soft limit.
    package func warnings(at time: Timestamp) -> [String] {
        let odd = accounts.filter { $0.value.hold != nil || $0.value.told != 0 }
        let found = odd.map { facts($0.key, $0.value, at: time) }.sorted {
            $0.subject.description < $1.subject.description
        }
        let held = found.compactMap { facts in
            facts.hold.map {
                "\(facts.subject) is held since \($0.since.isoDate): \($0.reason); see slimtad login show \(facts.subject)"
            }
        }
        return held
            + found.filter { $0.hold == nil }.flatMap { facts in
                facts.exceeded.map { "\(facts.subject) sends much: \($0)" }
            }
    }

    private func facts(_ subject: QuotaSubject, _ account: QuotaAccount, at time: Timestamp) -> QuotaFacts {
        let now = time.short
        let limits = rules?.limits(of: subject) ?? QuotaLimits()
        let (hour, day) = account.sums(at: now)
        return QuotaFacts(
            subject: subject, since: Timestamp(short: account.since), last: Timestamp(short: account.last), hour: hour,
            day: day, known: account.known.count, refused: (account.outcomes.refused, account.outcomes.count),
            hold: account.hold,
            forgivenUntil: account.forgivenUntil > now ? Timestamp(short: account.forgivenUntil) : nil,
            isLearning: rules.map { account.isLearning($0, at: now) } ?? false, limits: limits,
            exceeded: account.over(limits.soft, at: now))
    }
}

extension Timestamp {
    /// From seconds since 1970.
    init(short: UInt32) { self.init(milliseconds: Int64(short) * 1000) }
}
