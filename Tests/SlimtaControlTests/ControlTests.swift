// Every resource of the control socket, what each answers, and every mistake that can be made with it.

import Foundation
import NIOCore
import SlimtaMail
import SlimtaNet
import SlimtaQueue
import SlimtaStorage
import StorageKit
import Synchronization
import Testing

@testable import SlimtaControl

/// A request with a mistake, and the answer.
struct Mistake: Sendable, CustomStringConvertible {
    let method: ControlRequest.Method
    let path: String
    let query: [(String, String)]
    let status: Int
    let text: String

    init(_ method: ControlRequest.Method, _ path: String, _ query: [(String, String)], _ status: Int, _ text: String) {
        (self.method, self.path, self.query, self.status, self.text) = (method, path, query, status, text)
    }

    init(_ method: ControlRequest.Method, _ path: String, _ status: Int, _ text: String) {
        self.init(method, path, [], status, text)
    }

    var description: String { "\(method.rawValue) /\(path) \(query.map { "\($0)=\($1)" })" }

    private static let nobody = "00000000000000000000000000000000"
    private static let notAnID = "is not a queue id: 32 hexadecimal digits"

    static let ofPath: [Mistake] =
        [
            "", "nothing", "status/x", "checkpoint/x", "reload/x", "drain/x", "audit/x", "audit/acknowledge/x",
            "queue/a/b", "guesses/x", "guesses/release/x", "dkim/x", "dkim/check/x", "tls/x", "sites/a/b", "nodes/a/b",
        ]
        .flatMap { path in
            [.get, .post].map { Mistake($0, path, 404, "there is nothing at /\(path)") }
        } + [
            Mistake(.post, "queue/explode", 404, "explode is none of flush, hold, release, remove, bounce"),
            Mistake(.post, "queue/count", 404, "count is none of flush"),
            Mistake(.get, "queue/flush", 400, "\"flush\" \(notAnID)"),
            Mistake(.get, "queue/\(nobody)0", 400, notAnID),
            Mistake(.get, "queue/\(nobody)", 404, "\(nobody) is not queued"),
            Mistake(.post, "checkpoint", 404, "this queue's storage makes no checkpoints"),
            Mistake(.get, "nodes", 404, "one machine's alone"),
            Mistake(.post, "nodes/drain", 400, "which node? name=NODE"),
            Mistake(.post, "nodes/drain", [("name", "x"), ("force", "no")], 400, "force: say force=yes"),
            Mistake(.post, "nodes/drain", [("name", "x")], 404, "one machine's alone"),
            Mistake(.post, "nodes/kill", [("name", "x")], 404, "kill is none of drain, resume, forget"),
        ]

    static let ofMethod: [Mistake] =
        [
            "checkpoint", "reload", "drain", "audit/acknowledge", "guesses/release", "dkim/check", "dkim/make",
            "tls/forget",
        ].map {
            Mistake(.get, $0, 405, "GET is for looking")
        }
        + ["status", "queue", "audit", "guesses", "dkim", "tls", "tls/explain", "sites", "nodes"].map {
            Mistake(.post, $0, 405, "POST for changing")
        }

    static let ofName: [Mistake] =
        ["audit", "guesses"].map {
            Mistake(.get, $0, [("x", "")], 400, "no parameter \"x\": there are none here")
        }
        + ["audit/acknowledge", "checkpoint", "reload", "drain"].map {
            Mistake(.post, $0, [("now", "yes")], 400, "no parameter \"now\": there are none here")
        }
        + ["queue", "queue/count"].map { Mistake(.get, $0, [("sendr", "a@b")], 400, "no parameter \"sendr\"") }
        + [
            Mistake(.get, "status", [("x", "")], 400, "no parameter \"x\": known are all"),
            Mistake(.get, "status", [("all", "no")], 400, "all: say all=yes"),
            Mistake(.get, "nodes", [("x", "")], 400, "no parameter \"x\": known are queued"),
            Mistake(.get, "nodes", [("queued", "yes")], 400, "queued: say queued=no"),
            Mistake(.post, "nodes/resume", [("name", "x"), ("force", "yes")], 400, "no parameter \"force\""),
            Mistake(.get, "queue/count", [("limit", "1")], 400, "no parameter \"limit\""),
            Mistake(.get, "queue", [("all", "yes")], 400, "no parameter \"all\""),
            Mistake(.get, "queue/\(nobody)", [("contents", "")], 400, "known are content"),
        ]

    static let ofValue: [Mistake] =
        ["0", "1001", "-1", "x", "", "1 "].map { Mistake(.get, "queue", [("limit", $0)], 400, "from 1 to 1000") }
        + ["after", "until"].flatMap { name in
            ["queue", "queue/count"].map { Mistake(.get, $0, [(name, "x")], 400, "\(name): \"x\" \(notAnID)") }
        }
        + ["queue", "queue/count"].flatMap { path in
            [
                ("sender", "bob", "neither an address nor @domain"), ("state", "gone", "none of held, active"),
                ("age", "long", "is not like 30s"), ("login", "", "nothing is given"),
            ].map { Mistake(.get, path, [($0, $1)], 400, $2) }
        } + [Mistake(.get, "queue", [("login", "a"), ("login", "b")], 400, "login is given twice")]

    static let ofChanges: [Mistake] = QueueAction.allCases.flatMap { action in
        let path = "queue/\(action.rawValue)"
        let which = "which messages? id=ID"
        return [
            Mistake(.post, path, 400, which), Mistake(.post, path, [("limit", "5")], 400, which),
            Mistake(.post, path, [("id", nobody), ("all", "yes")], 400, which),
            Mistake(.post, path, [("id", nobody), ("login", "ann")], 400, which),
            Mistake(.post, path, [("all", "yes"), ("login", "ann")], 400, which),
            Mistake(.post, path, [("all", "no")], 400, "all: say all=yes"),
            Mistake(.post, path, [("all", "")], 400, "all: say all=yes"),
            Mistake(.post, path, [("id", "x")], 400, "\"x\" \(notAnID)"),
            Mistake(.post, path, [("id", nobody), ("force", "")], 400, "no parameter \"force\""),
            Mistake(.post, path, [("all", "yes"), ("limit", "0")], 400, "from 1 to 1000"),
            Mistake(.post, path, [("state", "gone")], 400, "none of held, active"),
        ]
    }
}

@Suite struct ControlTests {
    let database = MemoryDatabase()

    @Test func mistakesAreToldAndChangeNothing() async throws {
        let fixture = try await ControlFixture(database)
        try await fixture.accept(2, login: "ann")
        let before = try await fixture.places()
        for mistake in Mistake.ofPath + Mistake.ofMethod + Mistake.ofName + Mistake.ofValue + Mistake.ofChanges {
            let answer = try await fixture.ask(mistake.method, mistake.path, mistake.query)
            #expect(answer.status == mistake.status, "\(mistake)")
            let error = answer.json["error"].text ?? ""
            #expect(error.contains(mistake.text), "\(mistake): \(error)")
        }
        #expect(try await fixture.places() == before)
        #expect(fixture.daemon.orders.isEmpty)
        // Only the checkpoint was asked for rightly, of a storage that makes none.
        #expect(fixture.lines == ["command by=user7 command=checkpoint pid=42"])
    }

    @Test func whoGuessesIsListedAndLetIn() async throws {
        let fixture = try await ControlFixture(database)
        let (status, json) = try await fixture.ask(.get, "guesses")
        #expect(status == 200 && json.elements.map { $0["name"].text } == ["192.0.2.1", "alice"])
        #expect(
            json.elements[0]["until"].text?.hasPrefix("2023-11-14T22:13:20") == true
                && json.elements[0]["times"].integer == 2)
        #expect(json.elements[1]["until"] == .null && json.elements[1]["logins"] == .null)
        for query in [[], [("name", "")], [("name", "a"), ("name", "b")], [("all", "yes")]] {
            #expect(try await fixture.ask(.post, "guesses/release", query).status == 400)
        }
        #expect(try await fixture.ask(.post, "guesses/release", [("name", "bob")]).status == 404)
        #expect(try await fixture.ask(.post, "guesses/release", [("name", "alice")]).status == 200)
        #expect(fixture.daemon.orders == ["release bob", "release alice"])
        #expect(fixture.lines.last == "command by=user7 command=guess release alice pid=42")
    }

    @Test func keysAreShownAskedForAndMade() async throws {
        let fixture = try await ControlFixture(database)
        let (status, json) = try await fixture.ask(.get, "dkim", [("domain", "Example.COM")])
        #expect(status == 200 && json["domains"].elements.map { $0["mail"].text } == ["signed"])
        let key = json["keys"].elements.first ?? .null
        #expect(key["state"].text == "active" && key["signs"].isTrue && key["record_right"].isTrue)
        #expect(try await fixture.ask(.get, "dkim", [("domain", "example.org")]).json["keys"].elements.isEmpty)
        let asked = try await fixture.ask(.post, "dkim/check", [("domain", "Example.COM")])
        #expect(asked.json["keys"].elements.first?["dns"].text == "ask for example.com")
        #expect(fixture.lines.isEmpty)
        let status1 = try await fixture.ask(.get, "status").json
        #expect(status1["dkim"]["keys"].elements.count == 1)
        for (query, expected) in [
            ([], 400), ([("domain", "example.com")], 400), ([("domain", "example.com"), ("algorithm", "x")], 400),
            ([("domain", "example.com"), ("algorithm", "ed25519-sha256")], 409),
            ([("domain", "example.com"), ("algorithm", "rsa-sha256"), ("selector", "s"), ("next", "yes")], 200),
        ] {
            #expect(try await fixture.ask(.post, "dkim/make", query).status == expected, "\(query)")
        }
        #expect(fixture.daemon.orders.last == "make s true")
        #expect(fixture.lines.last == "command by=user7 command=dkim rotate example.com rsa-sha256 pid=42")
    }

    // MARK: Looking

    @Test func aMessage() async throws {
        let fixture = try await ControlFixture(database)
        let id = try await fixture.accept(login: "ann")[0]
        let (status, json) = try await fixture.ask(.get, "queue/\(id)")
        #expect(status == 200 && json["id"].text == "\(id)" && json["state"].text == "due")
        #expect(json["sender"].text == "sender@later.test" && json["size"].integer == 36)
        #expect(json["client"]["login"].text == "ann")
        #expect(json["recipients"].elements.map { $0["fate"].text } == ["pending"])
        let content = await fixture.response(.get, "queue/\(id)", [("content", "")])
        #expect(content.status == 200 && content.fields.map(\.value) == ["message/rfc822"])
        guard case .stream(let next) = content.content else {
            Issue.record("the content is no stream")
            return
        }
        var text = ""
        while let piece = try await next() { text += String(buffer: piece) }
        #expect(text == "Received: here\r\nSubject: x\r\n\r\nbody\r\n")
    }

    @Test(arguments: [1, 7, 255, 256, 257, 600, 1000])
    func pagesHaveEachMessageOnce(_ limit: Int) async throws {
        let fixture = try await ControlFixture(database)
        let ids = try await fixture.accept(600)
        for until in [nil, ids[0], ids[300], ids[599]] {
            var found: [String] = []
            var after: [(String, String)] = []
            repeat {
                let query = [("limit", "\(limit)")] + after + (until.map { [("until", "\($0)")] } ?? [])
                let (status, page) = try await fixture.ask(.get, "queue", query)
                #expect(status == 200 && page["messages"].elements.count <= limit)
                found += page["messages"].elements.compactMap { $0["id"].text }
                after = page["next"].text.map { [("after", $0)] } ?? []
            } while !after.isEmpty
            #expect(found == ids.filter { until == nil || $0 <= until! }.map { "\($0)" })
        }
    }

    /// A request's work is bounded: what nobody meant is counted in pages all the same.
    @Test func aFilterThatMeansLittleGoesOnWhereItEnded() async throws {
        let fixture = try await ControlFixture(database)
        try await fixture.accept(4200)
        try await fixture.accept(5, login: "ann")
        for path in ["queue", "queue/count"] {
            var (pages, found) = (0, 0)
            var after: [(String, String)] = []
            repeat {
                let page = try await fixture.ask(.get, path, [("login", "ann")] + after).json
                pages += 1
                found += page["messages"].elements.count + Int(page["count"].integer ?? 0)
                after = page["next"].text.map { [("after", $0)] } ?? []
            } while !after.isEmpty
            #expect(pages == 2 && found == 5, "\(path)")
        }
        let all = try await fixture.ask(.get, "queue/count").json
        #expect(all["count"].integer == 4205 && all["next"] == .null)
    }

    @Test func placesOfMessages() async throws {
        let fixture = try await ControlFixture(database)
        let held = try await fixture.accept()[0]
        #expect(try await fixture.ask(.post, "queue/hold", ("id", "\(held)")).json["done"].integer == 1)
        let later = try await fixture.accept(to: "x@later.test")[0]
        let slow = try await fixture.accept(to: "x@slow.test")[0]
        let wanted = ["\(held)": "held", "\(later)": "deferred", "\(slow)": "active"]
        try await fixture.delivering {
            try await eventually("places") { try await fixture.places() == wanted }
            for (id, place) in wanted {
                let list = try await fixture.ask(.get, "queue", ("state", place)).json["messages"].elements
                #expect(list.map { $0["id"].text } == [id])
            }
            let reason = try await fixture.ask(.get, "queue", ("reason", "greylisted")).json["messages"].elements
            #expect(reason.map { $0["id"].text } == ["\(later)"])
            let status = try await fixture.ask(.get, "status").json["queue"]
            #expect(["total", "held", "active", "due", "deferred"].map { status[$0].integer } == [3, 1, 1, 0, 1])
            // What is in somebody's hands is left alone.
            let failed = try await fixture.ask(.post, "queue/remove", ("id", "\(slow)")).json
            #expect(failed["done"].integer == 0)
            #expect(failed["failed"].elements.map { $0["error"].text } == [QueueOperationError.inFlight.text])
        }
    }

    // MARK: Changing

    /// Places of two messages, the first of which was held, after an action by their ids, and what could not be done.
    @Test(arguments: [
        (QueueAction.hold, ["held", "held"], []), (.release, ["due", "due"], []),
        (.flush, ["held", "due"], ["is held: release it first"]), (.remove, [nil, nil], []), (.bounce, [nil, nil], []),
    ])
    func actions(_ action: QueueAction, _ after: [String?], _ errors: [String]) async throws {
        let fixture = try await ControlFixture(database)
        let ids = try await fixture.accept(2)
        _ = try await fixture.ask(.post, "queue/hold", ("id", "\(ids[0])"))
        let nobody = "\(QueueID(high: 1, low: 1))"
        let query = (ids.map { "\($0)" } + [nobody, "\(ids[1])"]).map { ("id", $0) }
        let (status, json) = try await fixture.ask(.post, "queue/\(action.rawValue)", query)
        #expect(status == 200 && json["next"] == .null && json["delivering"].isTrue)
        #expect(json["done"].integer == Int64(2 - errors.count))
        #expect(Set(json["failed"].elements.compactMap { $0["error"].text }) == Set(errors + ["is not queued"]))
        let places = try await fixture.places()
        #expect(ids.map { places["\($0)"] } == after)
        // A sender is told what was given up.
        #expect(places.count == (action == .remove ? 0 : 2))
        #expect(
            fixture.lines.suffix(2) == [
                "command by=user7 command=\(action.rawValue) 4 messages pid=42",
                "command carried out by=user7 command=\(action.rawValue) messages=\(2 - errors.count)",
            ])
    }

    @Test(arguments: QueueAction.allCases)
    func actionsOnAllThatAFilterMeans(_ action: QueueAction) async throws {
        let fixture = try await ControlFixture(database)
        let others = try await fixture.accept(3, login: "bob")
        try await fixture.accept(5, login: "ann")
        fixture.daemon.set { $0.delivers = false }
        var done: Int64 = 0
        var after: [(String, String)] = []
        repeat {
            let query = [("login", "ann"), ("limit", "2")] + after
            let page = try await fixture.ask(.post, "queue/\(action.rawValue)", query).json
            #expect(page["failed"].elements.isEmpty && !page["delivering"].isTrue)
            done += page["done"].integer ?? 0
            after = page["next"].text.map { [("after", $0)] } ?? []
        } while !after.isEmpty
        #expect(done == 5)
        let places = try await fixture.places()
        #expect(others.allSatisfy { places["\($0)"] == "due" })
        // The first page says who asked, for all of them.
        #expect(fixture.lines.count { $0.hasPrefix("command by=user7 command=\(action.rawValue) login=ann") } == 1)
    }

    @Test(arguments: QueueAction.allCases)
    func actionsOnAll(_ action: QueueAction) async throws {
        let fixture = try await ControlFixture(database)
        try await fixture.accept(130)
        let page = try await fixture.ask(.post, "queue/\(action.rawValue)", ("all", "yes"), ("limit", "1000")).json
        #expect(page["done"].integer == 130 && page["next"] == .null && page["failed"].elements.isEmpty)
        let count = try await fixture.ask(.get, "queue/count").json["count"].integer
        #expect(count == (action == .remove ? 0 : 130))
    }

    @Test func whatIsFlushedIsAttemptedAgain() async throws {
        let fixture = try await ControlFixture(database)
        let id = try await fixture.accept(to: "x@later.test")[0]
        func attempts() async throws -> Int64? { try await fixture.ask(.get, "queue/\(id)").json["attempts"].integer }
        try await fixture.delivering {
            for (number, query) in [("id", "\(id)"), ("all", "yes"), ("domain", "later.test")].enumerated() {
                try await eventually("attempt") {
                    let places = try await fixture.places()
                    let made = try await attempts()
                    return made == Int64(number + 1) && places == ["\(id)": "deferred"]
                }
                #expect(try await fixture.ask(.post, "queue/flush", query).json["done"].integer == 1)
            }
            try await eventually("attempt") { try await attempts() == 4 }
        }
    }

    // MARK: The daemon

    @Test func reloads() async throws {
        let fixture = try await ControlFixture(database)
        for (result, status) in [
            (ReloadResult(), 200), (ReloadResult(warnings: ["few files"]), 200),
            (ReloadResult(errors: ["line 3", "  key"], isApplied: false), 422),
            (ReloadResult(errors: ["a certificate"]), 422),
        ] {
            fixture.daemon.setResult(result)
            let answer = try await fixture.ask(.post, "reload")
            #expect(answer.status == status && answer.json["applied"].isTrue == result.isApplied)
            #expect(answer.json["errors"].elements.map(\.text) == result.errors)
            #expect(answer.json["warnings"].elements.map(\.text) == result.warnings)
        }
        #expect(fixture.daemon.orders == Array(repeating: "reload", count: 4))
        #expect(fixture.lines.first == "command by=user7 command=reload pid=42")
    }

    /// The answer has to be on its way before the daemon ends.
    @Test func drainBeginsBehindItsAnswer() async throws {
        let fixture = try await ControlFixture(database)
        let answer = await fixture.response(.post, "drain")
        #expect(answer.status == 200 && fixture.daemon.orders.isEmpty)
        answer.afterwards()
        #expect(fixture.daemon.orders == ["drain"])
    }

    @Test func status() async throws {
        let fixture = try await ControlFixture(database)
        try await fixture.accept(3)
        var json = try await fixture.ask(.get, "status").json
        #expect(json["running"].isTrue && json["in_use"].isTrue && json["delivering"].isTrue)
        #expect(json["version"].text == "9.9" && json["hostname"].text == "mx.test")
        #expect(json["configuration"].text == "/etc/slimta.conf" && (json["uptime"].integer ?? 0) >= 90)
        #expect(json["edges"].elements.map { $0["sessions"].integer } == [3])
        #expect(json["queue"]["total"].integer == 3 && json["queue"]["due"].integer == 3)
        #expect(json["storage"]["queued"].integer == 3 && json["ledger"]["submitted"]["accepted"].integer == 3)
        #expect(json["reload"] == .null && json["warnings"].elements.isEmpty)
        fixture.daemon.set { facts in
            facts.difference = "it was changed"
            facts.reload = ReloadResult(errors: ["line 3", "  key"], isApplied: false)
            facts.isDraining = true
            facts.delivers = false
            facts.warnings = ["a relay"]
        }
        json = try await fixture.ask(.get, "status").json
        #expect(json["draining"].isTrue && !json["in_use"].isTrue && !json["delivering"].isTrue)
        #expect(json["reload"]["errors"].elements.count == 2)
        let warnings = json["warnings"].elements.compactMap(\.text)
        #expect(warnings.count == 4 && warnings[0].hasSuffix("failed: line 3"))
        #expect(Array(warnings.dropFirst()) == ["it was changed", DaemonFacts.undelivered, "a relay"])
    }

    // MARK: The storage

    @Test func whatWasLostIsToldUntilItIsKnown() async throws {
        let fixture = try await ControlFixture(database)
        let ids = try await fixture.accept(3)
        #expect(try await fixture.ask(.get, "audit").json["clean"].isTrue)
        database.damage(ids[1])
        let list = try await fixture.ask(.get, "queue").json
        #expect(list["messages"].elements.map { $0["id"].text } == ["\(ids[0])", "\(ids[2])"])
        #expect(list["unreadable"].elements.map { $0["id"].text } == ["\(ids[1])"])
        #expect(try await fixture.ask(.get, "queue/\(ids[1])").status == 500)
        let audit = try await fixture.ask(.get, "audit").json
        #expect(!audit["clean"].isTrue && audit["envelopes"].integer == 2)
        let loss = "the message of \(ids[1]) is unreadable"
        func warnings() async throws -> [String?] {
            try await fixture.ask(.get, "status").json["warnings"].elements.map(\.text)
        }
        #expect(try await warnings() == ["mail may be lost: \(loss)"])
        let known = try await fixture.ask(.post, "audit/acknowledge")
        #expect(known.status == 200 && known.json["acknowledged"].elements.map(\.text) == [loss])
        #expect(try await warnings().isEmpty)
        #expect(fixture.lines == ["command by=user7 command=audit --acknowledge pid=42"])
    }

    @Test func oneAuditAtATime() async throws {
        let fixture = try await ControlFixture(database)
        fixture.control.isAuditing.store(true, ordering: .relaxed)
        #expect(try await fixture.ask(.get, "audit").status == 409)
        fixture.control.isAuditing.store(false, ordering: .relaxed)
        for _ in 0..<2 { #expect(try await fixture.ask(.get, "audit").status == 200) }
    }

    @Test(arguments: [true, false])
    func aStorageThatIsAwayOrClosed(_ isAway: Bool) async throws {
        let fixture = try await ControlFixture(database)
        let id = try await fixture.accept()[0]
        if isAway { database.setAway("node", "no route") } else { await fixture.storage.close() }
        let text = isAway ? "no route" : "the daemon is stopping"
        for (method, path, query) in [
            (ControlRequest.Method.get, "queue", []), (.get, "queue/count", [("login", "x")]),
            (.get, "queue/\(id)", []),
            (.get, "audit", []), (.post, "audit/acknowledge", []), (.post, "queue/hold", [("login", "x")]),
        ] as [(ControlRequest.Method, String, [(String, String)])] {
            let answer = try await fixture.ask(method, path, query)
            #expect(answer.status == 503 && answer.json["error"].text?.contains(text) == true, "\(path)")
        }
        let status = try await fixture.ask(.get, "status")
        #expect(status.status == 200 && status.json["ledger"] == .null)
        #expect(status.json["storage"]["failure"].text == (isAway ? "no route" : "closed"))
        for action in [QueueAction.hold, .remove, .bounce] {
            let answer = try await fixture.ask(.post, "queue/\(action.rawValue)", ("id", "\(id)")).json
            #expect(answer["done"].integer == 0 && answer["failed"].elements.count == 1, "\(action)")
        }
    }

    @Test func checkpointOfAJournal() async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("control-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        var options = StorageOptions()
        // None but the one that is asked for.
        options.checkpointAge = .seconds(3600)
        let storage = try JournaledStorage.open(directory: path, owner: nil, options: options, report: { _ in })
        let fixture = try await ControlFixture(storage)
        try await fixture.accept(3)
        let before = storage.status().checkpoint
        let answer = try await fixture.ask(.post, "checkpoint")
        #expect(answer.status == 200 && (answer.json["checkpoint"].integer ?? 0) > Int64(before))
        await storage.close()
        #expect(try await fixture.ask(.post, "checkpoint").status == 503)
    }
}

@Suite struct RefusalTests {
    /// All that a storage can say, as the status of an answer.
    @Test(arguments: [
        (StorageError.notFound, 404), (.lost, 404), (.damaged("x"), 500), (.failed("x"), 503), (.closed, 503),
        (.away("x"), 503), (.doubtful, 503), (.full, 507),
    ])
    func ofTheStorage(_ error: StorageError, _ status: Int) {
        let refusal = Refusal(error)
        #expect(refusal.status == status && !refusal.text.isEmpty)
    }
}
