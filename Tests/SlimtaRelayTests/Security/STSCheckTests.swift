// Which policy counts: each answer in each state of what is kept, the times, the file, and what goes when there is too much.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct STSCheckTests {
    private static let now = Timestamp(milliseconds: 1_800_000_000_000)
    private static let day: Duration = .seconds(86_400)

    private static func before(_ age: Duration) -> Timestamp { now + (.zero - age) }

    private static func text(_ mode: String, maxAge: Int = 604_800) -> [UInt8] {
        Array("version: STSv1\r\nmode: \(mode)\r\nmx: mx.example.com\r\nmax_age: \(maxAge)\r\n".utf8)
    }

    private static func kept(
        _ mode: String = "enforce", id: String = "a", age: Duration = .seconds(3600), maxAge: Int = 604_800
    ) throws -> STSCachedPolicy {
        try STSCachedPolicy(text(mode, maxAge: maxAge), id: id, fetched: before(age), lastUsed: before(age))
    }

    private static func record(_ id: String) -> STSCheck.RecordAnswer { .records([Array("v=STSv1; id=\(id)".utf8)]) }

    private func outcome(_ check: STSCheck) -> STSCheck.Outcome? {
        if case .done(let outcome) = check.step { return outcome }
        return nil
    }

    @Test func theFirstTime() throws {
        var check = STSCheck("example.com", kept: nil, at: Self.now)
        #expect(check.step == .askRecord("_mta-sts.example.com"))
        check.answered(Self.record("a"))
        #expect(check.step == .fetch(host: "mta-sts.example.com"))
        check.fetched(.success(Self.text("enforce")))
        let result = try #require(outcome(check))
        #expect(result.standing.isEnforced && result.failure == nil)
        guard case .keep(let policy) = result.change else {
            Issue.record("not kept")
            return
        }
        #expect(policy.id == "a" && policy.fetched == Self.now && policy.lastUsed == Self.now)
    }

    @Test func theSameID() throws {
        var check = STSCheck("example.com", kept: try Self.kept(), at: Self.now)
        check.answered(Self.record("a"))
        #expect(outcome(check)?.standing.isEnforced == true)
        // That it is used is no reason to write it each time.
        #expect(outcome(check)?.change == STSCheck.Change.none)
        check = STSCheck("example.com", kept: try Self.kept(age: Self.day * 2), at: Self.now)
        check.answered(Self.record("a"))
        guard case .keep(let policy) = outcome(check)?.change else {
            Issue.record("its use is not noted")
            return
        }
        #expect(policy.lastUsed == Self.now && policy.fetched == Self.before(Self.day * 2))
    }

    @Test func anotherID() throws {
        var check = STSCheck("example.com", kept: try Self.kept(), at: Self.now)
        check.answered(Self.record("b"))
        #expect(check.step == .fetch(host: "mta-sts.example.com"))
        var (failed, broken, none) = (check, check, check)
        check.fetched(.success(Self.text("testing")))
        #expect(outcome(check)?.policy?.mode == .testing)
        failed.fetched(.failure(.tls("certificate has expired")))
        #expect(outcome(failed)?.standing.isEnforced == true)
        #expect(outcome(failed)?.failure?.kind == .policyWebPKIInvalid)
        #expect(failed.failedFetch == .init(id: "b", time: Self.now))
        broken.fetched(.success(Array("version: STSv2\n".utf8)))
        #expect(outcome(broken)?.standing.isEnforced == true && outcome(broken)?.failure?.kind == .policyInvalid)
        // Mode none replaces, and is kept itself.
        none.fetched(.success(Self.text("none")))
        #expect(outcome(none)?.standing == STSStanding.none)
        guard case .keep(let policy) = outcome(none)?.change else {
            Issue.record("not kept")
            return
        }
        #expect(policy.policy.mode == .none)
    }

    /// Nobody on the way can end a policy.
    @Test(arguments: [
        STSCheck.RecordAnswer.records([]), .failed("SERVFAIL"), .records([Array("v=STSv1;".utf8)]),
        .records([Array("v=STSv1; id=b".utf8), Array("v=STSv1; id=c".utf8)]),
    ])
    func withoutARecord(_ answer: STSCheck.RecordAnswer) throws {
        var check = STSCheck("example.com", kept: try Self.kept(), at: Self.now)
        check.answered(answer)
        #expect(outcome(check)?.standing.isEnforced == true)
        // It has ended: then there is none.
        check = STSCheck("example.com", kept: try Self.kept(age: Self.day * 7), at: Self.now)
        check.answered(answer)
        #expect(outcome(check)?.standing == STSStanding.none && outcome(check)?.change == .remove)
        check = STSCheck("example.com", kept: nil, at: Self.now)
        check.answered(answer)
        #expect(outcome(check)?.standing == STSStanding.none && outcome(check)?.change == STSCheck.Change.none)
        #expect((outcome(check)?.failure != nil) == (answer != .records([])))
    }

    @Test func aServerIsLeftInPeace() {
        let failed = STSCheck.FailedFetch(id: "a", time: Self.now)
        func step(_ id: String, after: Duration) -> STSCheck.Step {
            var check = STSCheck("example.com", kept: nil, failedFetch: failed, at: Self.now + after)
            check.answered(Self.record(id))
            return check.step
        }
        #expect(step("a", after: .seconds(299)) == .done(.init()))
        #expect(step("a", after: .seconds(300)) == .fetch(host: "mta-sts.example.com"))
        #expect(step("b", after: .seconds(1)) == .fetch(host: "mta-sts.example.com"))
        #expect(step("a", after: .seconds(-1)) == .fetch(host: "mta-sts.example.com"))
    }

    @Test func anAgeOfNothing() throws {
        for (kept, change) in [(nil, STSCheck.Change.none), (try Self.kept(), .remove)]
            as [(STSCachedPolicy?, STSCheck.Change)]
        {
            var check = STSCheck("example.com", kept: kept, at: Self.now)
            check.answered(Self.record("new"))
            check.fetched(.success(Self.text("enforce", maxAge: 0)))
            #expect(outcome(check)?.standing.isEnforced == true && outcome(check)?.change == change)
        }
    }

    @Test func aClockThatWasWrong() throws {
        let future = try STSCachedPolicy(
            Self.text("enforce", maxAge: 60), id: "a", fetched: Self.now + Self.day * 1000,
            lastUsed: Self.now + Self.day)
        #expect(future.isInForce(at: Self.now))
        let corrected = future.corrected(at: Self.now)
        #expect(corrected.fetched == Self.now && corrected.lastUsed == Self.now)
        #expect(!corrected.isInForce(at: Self.now + .seconds(60)))
    }

    @Test func refreshes() throws {
        let policy = try Self.kept(age: .zero, maxAge: 31_557_600)
        var hours: Set<Int> = []
        for number in 0..<200 {
            let domain = "d\(number).example"
            let due = (0..<48).first { policy.isRefreshDue(of: domain, at: Self.now + .seconds($0 * 3600)) }
            hours.insert(try #require(due))
        }
        // Not all at once, and all within four hours of a day.
        #expect(hours.count >= 7 && hours.allSatisfy { (20...28).contains($0) })
        let later = Self.now + Self.day * 2
        #expect(policy.isRefreshDue(of: "a.example", at: later))
        #expect(!policy.isRefreshDue(of: "a.example", at: later, lastTry: later + .seconds(-60)))
        #expect(!policy.isRefreshDue(of: "a.example", at: Self.now + Self.day * 31))
        // The same id is no reason not to fetch it, and being refreshed is no use.
        var check = STSCheck("example.com", kept: try Self.kept(age: Self.day), at: Self.now, isRefresh: true)
        check.answered(Self.record("a"))
        #expect(check.step == .fetch(host: "mta-sts.example.com"))
        check.fetched(.success(Self.text("none")))
        guard case .keep(let new) = outcome(check)?.change else {
            Issue.record("not kept")
            return
        }
        #expect(new.fetched == Self.now && new.lastUsed == Self.before(Self.day))
    }

    // MARK: On disk

    @Test func comesBackFromItsFile() throws {
        let policy = try Self.kept()
        #expect(STSCachedPolicy(file: policy.file) == policy)
        let whole = policy.file
        for cut in [0, 1, 17, 40, 60, 80, 95] {
            #expect(STSCachedPolicy(file: Array(whole.prefix(cut))) == nil, "\(cut)")
        }
        var changed = whole
        changed[0] = UInt8(ascii: "S")
        #expect(STSCachedPolicy(file: changed) == nil)
    }

    @Test func paths() {
        #expect(STSCachedPolicy.path(of: "example.com")?.hasSuffix("/example.com") == true)
        #expect(STSCachedPolicy.path(of: "example.com")?.utf8.count == 14)
        for domain in ["", ".", "..", "../x", "a/b", "*.example.com", "EXAMPLE.com", "a\0b", "a..b"] {
            #expect(STSCachedPolicy.path(of: domain) == nil, "\(domain)")
        }
    }

    @Test func whatGoes() {
        let items = (0..<10).map { number in
            STSCacheSize.Item(
                domain: "d\(number)", end: Self.now + .seconds(number - 2), lastUsed: Self.now + .seconds(-number))
        }
        #expect(STSCacheSize.surplus(of: items, at: Self.now) == ["d0", "d1", "d2"])
        #expect(STSCacheSize.surplus(of: items, at: Self.now, limit: 5) == ["d0", "d1", "d2", "d9", "d8"])
    }
}
