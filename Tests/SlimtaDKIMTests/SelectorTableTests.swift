// All keys together: who signs, rotation from beginning to end, and how it is kept.

import SlimtaMail
import TestKit
import Testing

@testable import SlimtaDKIM

@Suite struct SelectorTableTests {
    private typealias Phase = SelectorState.Phase

    private static func name(
        _ selector: String, _ algorithm: DKIMAlgorithm = .rsaSHA256, _ domain: String = "example.com"
    )
        -> SelectorName
    {
        SelectorName(domain: domain, selector: selector, algorithm: algorithm)!
    }

    /// Keys in these phases, each made an hour after the one before. A record is right unless the phase says otherwise.
    private static func table(_ selectors: [(SelectorName, Phase, isRight: Bool?)]) -> SelectorTable {
        var table = SelectorTable(Life.times)
        for (place, (name, phase, isRight)) in selectors.enumerated() {
            let made = Life.start + .seconds(place * 3600)
            var state = SelectorState(name, made: made, Life.times)
            state.phase = phase
            state.row.isRight = isRight
            state.row.count = isRight == nil ? 0 : 1
            table.add(state)
        }
        return table
    }

    private static let r1 = name("r1")
    private static let r2 = name("r2")
    private static let e1 = name("e1", .ed25519SHA256)

    /// What is to sign next; not what is older than what signs.
    @Test func waiting() {
        let r3 = Self.name("r3")
        for (phases, expected) in [
            ([Phase.made], ["r1"]), ([.active], []), ([.active, .made], ["r2"]), ([.active, .seen], ["r2"]),
            ([.made, .active], []), ([.seen, .active], []), ([.made, .active, .made], ["r3"]),
            ([.made, .retiring, .failing], ["r1"]), ([.retiring, .active], []), ([.made, .made], ["r1", "r2"]),
        ] {
            let names = [Self.r1, Self.r2, r3].prefix(phases.count)
            let table = Self.table(zip(names, phases).map { ($0, $1, isRight: nil) })
            #expect(table.waiting(among: names).map(\.selector) == expected, "\(phases)")
            // Of other keys, nothing is said.
            #expect(table.waiting(among: [Self.e1]).isEmpty)
        }
    }

    /// Keys, and who signs where the gate is closed, open, off.
    @Test(
        arguments: [
            // Nothing is there.
            ([], .closed(nil), .closed(nil), .closed(nil)),
            // The first key: nobody, unless mail is to go on.
            ([(r1, .made, nil)], .closed(r1), .sign([r1]), .sign([r1])),
            ([(r1, .seen, true)], .closed(r1), .sign([r1]), .sign([r1])),
            ([(r1, .active, true)], .sign([r1]), .sign([r1]), .sign([r1])),
            // A newer first key, and DNS has the older one.
            ([(r1, .seen, true), (r2, .made, false)], .closed(r2), .sign([r1]), .sign([r2])),
            ([(r1, .seen, true), (r2, .seen, true)], .closed(r2), .sign([r2]), .sign([r2])),
            ([(r1, .made, false), (r2, .made, nil)], .closed(r2), .sign([r2]), .sign([r2])),
            // Wrong for a moment.
            ([(r1, .active, false)], .sign([r1]), .sign([r1]), .sign([r1])),
            // It was active once: an open gate is for first keys.
            ([(r1, .failing, false)], .closed(r1), .closed(r1), .sign([r1])),
            ([(r1, .failing, false), (r2, .seen, true)], .closed(r2), .closed(r2), .sign([r2])),
            // The old one, until the new one is settled.
            ([(r1, .active, true), (r2, .seen, true)], .sign([r1]), .sign([r1]), .sign([r1])),
            ([(r1, .retiring, true), (r2, .active, true)], .sign([r2]), .sign([r2]), .sign([r2])),
            // It takes over again, if there is a record to verify with.
            ([(r1, .retiring, true), (r2, .failing, false)], .sign([r1]), .sign([r1]), .sign([r2])),
            ([(r1, .retiring, false), (r2, .failing, false)], .closed(r2), .closed(r2), .sign([r2])),
            (
                [(r1, .retiring, true), (name("r3"), .retiring, true), (r2, .failing, false)], .sign([name("r3")]),
                .sign([name("r3")]), .sign([r2])
            ),
            ([(r1, .old, true), (r2, .failing, false)], .closed(r2), .closed(r2), .sign([r2])),
            // Both algorithms, RSA first. RSA's gate is the domain's.
            ([(e1, .active, true), (r1, .active, true)], .sign([r1, e1]), .sign([r1, e1]), .sign([r1, e1])),
            ([(r1, .active, true), (e1, .made, nil)], .sign([r1]), .sign([r1, e1]), .sign([r1, e1])),
            ([(r1, .active, true), (e1, .failing, false)], .sign([r1]), .sign([r1]), .sign([r1, e1])),
            ([(r1, .failing, false), (e1, .active, true)], .closed(r1), .closed(r1), .sign([r1, e1])),
            // Ed25519 alone.
            ([(e1, .active, true)], .sign([e1]), .sign([e1]), .sign([e1])),
            ([(e1, .made, nil)], .closed(e1), .sign([e1]), .sign([e1])),
            // RSA was given up.
            ([(r1, .old, true), (e1, .active, true)], .sign([e1]), .sign([e1]), .sign([e1])),
        ]
            as [(
                [(SelectorName, SelectorState.Phase, Bool?)], SelectorTable.Choice, SelectorTable.Choice,
                SelectorTable.Choice
            )])
    func signers(
        _ selectors: [(SelectorName, SelectorState.Phase, Bool?)], _ closed: SelectorTable.Choice,
        _ open: SelectorTable.Choice, _ off: SelectorTable.Choice
    ) {
        var table = Self.table(selectors.map { ($0.0, $0.1, isRight: $0.2) })
        // Somebody else's is nobody's business.
        table.add(Self.name("x", .rsaSHA256, "other.example"), at: Life.start)
        #expect(table.choice(for: "example.com", .closed) == closed)
        #expect(table.choice(for: "example.com", .open) == open)
        #expect(table.choice(for: "example.com", .off) == off)
    }

    /// Asks what is due until `phase` is there; all changes on the way.
    private static func run(
        _ table: inout SelectorTable, from now: Timestamp, until name: SelectorName, is phase: Phase,
        _ answer: (SelectorName) -> DKIMRecordVerdict
    ) -> (now: Timestamp, changes: [String]) {
        var (next, now, changes) = (now, now, [String]())
        for _ in 0..<5000 where table.states[name]?.phase != phase {
            now = next
            var notices = table.clock(now)
            for name in table.due(at: now) {
                notices += table.take(
                    .answered(answer(name), ttl: .seconds(300), negativeTTL: .seconds(300)), of: name, at: now)
            }
            for notice in notices {
                switch notice.notice {
                case .changed(let from, let to, _):
                    changes.append("\(notice.name.selector) \(from.rawValue) \(to.rawValue)")
                case .done:
                    changes.append("\(notice.name.selector) done")
                    table.remove(notice.name)
                    if notice.name == name { return (now, changes) }
                case .wrong, .stale, .testing: break
                }
            }
            guard let question = table.nextQuestion(after: now) else { break }
            next = max(now + .seconds(1), question)
        }
        return (now, changes)
    }

    @Test func rotation() throws {
        var table = SelectorTable(Life.times)
        table.add(Self.r1, at: Life.start)
        var (now, changes) = Self.run(&table, from: Life.start, until: Self.r1, is: .active) { _ in
            .right(isTesting: false)
        }
        #expect(changes == ["r1 made seen", "r1 seen active"] && now - Life.start == .seconds(3600))
        table.add(Self.r2, at: now)
        // Its record is not there yet: nothing changes.
        for _ in 0..<5 { now = now + .seconds(3600); _ = table.take(Life.absent, of: Self.r2, at: now) }
        #expect(table.choice(for: "example.com", .closed) == .sign([Self.r1]))
        (now, changes) = Self.run(&table, from: now, until: Self.r2, is: .active) { _ in .right(isTesting: false) }
        #expect(changes == ["r2 made seen", "r2 seen active", "r1 active retiring"])
        #expect(table.choice(for: "example.com", .closed) == .sign([Self.r2]))
        let retired = now
        // The new one's record goes: the old one signs, and is the younger for it.
        (now, changes) = Self.run(&table, from: now, until: Self.r2, is: .failing) {
            $0 == Self.r2 ? .absent : .right(isTesting: false)
        }
        #expect(changes == ["r2 active failing"] && table.choice(for: "example.com", .closed) == .sign([Self.r1]))
        _ = table.take(.signed, of: Self.r1, at: now)
        let signed = now
        (now, changes) = Self.run(&table, from: now, until: Self.r2, is: .active) { _ in .right(isTesting: false) }
        #expect(changes == ["r2 failing active"] && table.choice(for: "example.com", .closed) == .sign([Self.r2]))
        (now, changes) = Self.run(&table, from: now, until: Self.r1, is: .old) { _ in .right(isTesting: false) }
        #expect(changes == ["r1 retiring old"] && now - signed >= .seconds(12 * 86400) && signed > retired)
        // Its key stays as long as the record does.
        for _ in 0..<50 { now = now + .seconds(3600); _ = table.take(Life.right, of: Self.r1, at: now) }
        (now, changes) = Self.run(&table, from: now, until: Self.r1, is: .made) {
            $0 == Self.r1 ? .absent : .right(isTesting: false)
        }
        #expect(changes == ["r1 done"] && table.states.count == 1)
        #expect(table.choice(for: "example.com", .closed) == .sign([Self.r2]))
    }

    /// The older one is settled after the newer one, and never takes its place.
    @Test func outOfOrder() {
        var table = Self.table([(Self.r1, .seen, true), (Self.r2, .active, true)])
        let (_, changes) = Self.run(&table, from: Life.start, until: Self.r1, is: .retiring) { _ in
            .right(isTesting: false)
        }
        #expect(changes == ["r1 seen active", "r1 active retiring"])
        #expect(table.states[Self.r2]?.phase == .active)
    }

    /// One that is active again retires the older one, not the newer one.
    @Test func otherGroupsStay() {
        var table = Self.table([
            (Self.r1, .failing, false), (Self.e1, .active, true),
            (Self.name("x", .rsaSHA256, "other.example"), .active, true),
            (Self.r2, .made, nil),
        ])
        let notices = table.take(Life.right, of: Self.r1, at: Life.start)
        #expect(notices.count == 1 && table.states.values.filter { $0.phase == .active }.count == 3)
    }

    @Test func askedAndUnknown() {
        var table = Self.table([(Self.r1, .active, true), (Self.e1, .active, true)])
        for name in [Self.r1, Self.e1] { _ = table.take(Life.right, of: name, at: Life.start) }
        #expect(table.due(at: Life.start + .seconds(60)) == [])
        #expect(table.nextQuestion(after: Life.start) == Life.start + .seconds(3600))
        // A clock that was set back: now.
        let before = Life.start + .seconds(-86400)
        #expect(table.nextQuestion(after: before) == before)
        table.askAll(at: Life.start + .seconds(60))
        #expect(table.due(at: Life.start + .seconds(60)) == [Self.r1, Self.e1])
        #expect(table.take(.signed, of: Self.r2, at: Life.start) == [])
        table.add(Self.r1, at: Life.start)
        #expect(table.states[Self.r1]?.phase == .active)
        table.remove(Self.r1)
        table.remove(Self.e1)
        #expect(table.nextQuestion(after: Life.start) == nil && table.choice(for: "example.com", .off) == .closed(nil))
    }

    /// What is known is of a key: another one of the same name begins anew, and one that was not noted yet does not.
    @Test(arguments: SelectorState.Phase.allCases) func anotherKeyOfTheName(_ phase: SelectorState.Phase) throws {
        let keys = try (0..<2).map { _ in try DKIMSigningKey.generate(.ed25519SHA256).publicKey.print }
        var table = Self.table([(Self.r1, phase, phase == .made ? nil : true)])
        var isAnother = table.use(Self.r1, key: keys[0], at: Life.start + .seconds(60))
        #expect(!isAnother && table.states[Self.r1]?.phase == phase && table.states[Self.r1]?.key == keys[0])
        isAnother = table.use(Self.r1, key: keys[0], at: Life.start + .seconds(60))
        #expect(!isAnother && table.states[Self.r1]?.phase == phase)
        // Also after a restart.
        var again = SelectorTable(Life.times)
        let isWhole = again.read(table.text)
        #expect(isWhole && again.text == table.text)
        isAnother = again.use(Self.r1, key: keys[1], at: Life.start + .seconds(120))
        #expect(isAnother && again.states.count == 1)
        #expect(
            again.states[Self.r1]
                == SelectorState(Self.r1, made: Life.start + .seconds(120), Life.times, key: keys[1]))
        #expect(again.choice(for: "example.com", .closed) == .closed(Self.r1))
        // A name that nobody knew.
        isAnother = again.use(Self.r2, key: keys[0], at: Life.start)
        #expect(!isAnother && again.states[Self.r2]?.key == keys[0] && again.states[Self.r2]?.phase == .made)
    }

    @Test func names() {
        #expect(Self.r1.description == "r1._domainkey.example.com rsa-sha256")
        #expect(
            SelectorName(domain: "M\u{FC}nchen.example", selector: "R1", algorithm: .rsaSHA256)?.recordName
                == "r1._domainkey.xn--mnchen-3ya.example")
        for (domain, selector) in [
            ("", "a"), ("example.com", ""), ("a b", "c"), ("example.com", "a b"), ("example.com", "a\nb"),
            ("example..com", "a"),
            (String(repeating: "d.", count: 120) + "com", "selector"),
        ] {
            #expect(SelectorName(domain: domain, selector: selector, algorithm: .rsaSHA256) == nil)
        }
        #expect(
            [Self.e1, Self.r2, Self.name("a", .rsaSHA256, "a.example"), Self.r1].sorted().map(\.selector) == [
                "a", "r1", "r2", "e1",
            ])
    }

    // MARK: Text

    /// Whatever was, is so again after a restart.
    @Test func keptAndRead() {
        for phase in Phase.allCases {
            var table = SelectorTable(Life.times)
            var life = Life(in: phase)
            table.add(life.state)
            life.wait(.milliseconds(1234))
            for event in [
                SelectorState.Event.signed, .leaves(life.now + .seconds(86400)), Life.absent, Life.unknown,
                .answered(.right(isTesting: true), ttl: .seconds(9999), negativeTTL: .zero),
            ] {
                _ = table.take(event, of: life.state.name, at: life.now)
                var again = SelectorTable(Life.times)
                let isWhole = again.read(table.text)
                #expect(isWhole)
                // How often DNS did not say is not kept: it is asked again soon.
                let (kept, before) = (again.states[life.state.name], table.states[life.state.name])
                #expect(kept?.phase == before?.phase && kept?.row == before?.row && kept?.since == before?.since)
                #expect(kept?.lastSigned == before?.lastSigned && kept?.nextQuestion == before?.nextQuestion)
                #expect(kept?.made == before?.made && kept?.settling == before?.settling)
                #expect(kept?.leaving == before?.leaving)
                #expect(again.text == table.text)
            }
        }
    }

    private static let line = """
        example.com r1 rsa-sha256 active since=2027-01-15T09:00:00.000Z made=2027-01-15T08:00:00.000Z record=right times=5 \
        from=2027-01-15T08:00:00.000Z until=2027-01-15T09:00:00.000Z settling=3600 ask=2027-01-15T10:00:00.000Z
        """

    @Test func text() {
        var table = SelectorTable(Life.times)
        table.add(Life(in: .active).state)
        #expect(table.text == Self.line + "\n")
        #expect(SelectorTable(Life.times).text == "")
    }

    /// Lines that nobody has written: the others are taken.
    @Test(arguments: [
        ("example.com", "ex ample.com"), ("r1", "R1"), ("rsa-sha256", "rsa-sha1"), (" active", " activ"),
        ("since", "sins"),
        ("made=2027", "made=27"), ("times=5", "times=0"), ("times=5", "times=99999999999"),
        ("record=right", "record=x"),
        ("record=right ", ""), ("settling=3600", "settling=-1"), (" ask=", " ask"), ("2027", "0000"),
        ("ask=", "signed=never ask="), ("ask=", "key=AAA ask="), ("ask=", "leaving=soon ask="),
        (" made", " since=2027-01-15T09:00:00.000Z made"),
    ])
    func damaged(_ old: String, _ new: String) {
        var table = SelectorTable(Life.times)
        let other = Self.line.replacing(" r1 ", with: " r9 ")
        let isWhole = table.read(Self.line.replacing(old, with: new) + "\n" + other + "\n")
        #expect(!isWhole)
        #expect(table.states.keys.map(\.selector) == ["r9"])
        let isNew = table.read(other)
        #expect(!isNew && table.states.count == 1)
    }
}
