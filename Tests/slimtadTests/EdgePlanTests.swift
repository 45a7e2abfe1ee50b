// What a reload does to edges and sockets, as a value: a table of changes, and random ones against what must come of them.

import TestKit
import Testing

@testable import SlimtaConfiguration
@testable import slimtad

/// An edge as the tables write it: "name: address address".
private func edge(_ text: String) -> Configuration.Edge {
    let sides = text.split(separator: ":")
    return Configuration.Edge(
        name: String(sides[0]),
        listen: (sides.count > 1 ? sides[1] : "").split(separator: " ").map { address(String($0)) })
}

private func address(_ name: String) -> ListenAddress { .unix(path: name) }

@Suite struct EdgePlanTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var old: [String]
        var new: [String]
        var ends: [String] = []
        /// "name -address +address", an edge of which nothing changes included.
        var steps: [String] = []
        /// "edge address".
        var binds: [String] = []
        var releases: [String] = []
    }

    static let cases = [
        Case(
            testDescription: "a start", old: [], new: ["a: 1 2", "b: 3"], steps: ["a +1 +2", "b +3"],
            binds: ["a 1", "a 2", "b 3"]),
        Case(testDescription: "nothing", old: ["a: 1"], new: ["a: 1"], steps: ["a"]),
        Case(testDescription: "another order", old: ["a: 1 2", "b: 3"], new: ["b: 3", "a: 2 1"], steps: ["b", "a"]),
        Case(
            testDescription: "one more edge", old: ["a: 1"], new: ["a: 1", "b: 2"], steps: ["a", "b +2"], binds: ["b 2"]
        ),
        Case(
            testDescription: "one edge less", old: ["a: 1", "b: 2"], new: ["a: 1"], ends: ["b"], steps: ["a"],
            releases: ["2"]),
        Case(
            testDescription: "another address", old: ["a: 1"], new: ["a: 2"], steps: ["a -1 +2"], binds: ["a 2"],
            releases: ["1"]),
        Case(
            testDescription: "an address moves to another edge: its socket stays", old: ["a: 1 2", "b: 3"],
            new: ["a: 1", "b: 2 3"], steps: ["a -2", "b +2"]),
        Case(
            testDescription: "two edges change places", old: ["a: 1", "b: 2"], new: ["a: 2", "b: 1"],
            steps: ["a -1 +2", "b -2 +1"]),
        Case(
            testDescription: "a new name: another edge on the same socket", old: ["a: 1"], new: ["b: 1"], ends: ["a"],
            steps: ["b +1"]),
        Case(
            testDescription: "all is new", old: ["a: 1", "b: 2"], new: ["c: 3"], ends: ["a", "b"], steps: ["c +3"],
            binds: ["c 3"], releases: ["1", "2"]),
    ]

    @Test(arguments: cases) func becomes(_ change: Case) {
        let plan = EdgePlan(from: change.old.map(edge), to: change.new.map(edge))
        #expect(plan.ends == change.ends)
        #expect(plan.steps.map(Self.text) == change.steps)
        #expect(
            plan.binds
                == change.binds.map { text in
                    let words = text.split(separator: " ").map(String.init)
                    return EdgePlan.Binding(address: address(words[1]), edge: words[0])
                })
        #expect(plan.releases == change.releases.map(address))
    }

    /// A socket that stays is opened to every user, or closed to them, where its new edge is of the other kind; one that is made
    /// or goes is not touched.
    @Test func modes() {
        func edges(_ kinds: [String: Configuration.Edge.Kind]) -> [Configuration.Edge] {
            kinds.map { Configuration.Edge(name: "\($0)\($1.name)", listen: [address($0)], type: $1) }
        }
        let (own, all) = (Configuration.Edge.Kind.smtp(.init()), Configuration.Edge.Kind.sendmail(.init()))
        let plan = EdgePlan(
            from: edges(["1": own, "2": all, "3": own, "4": all, "5": all]),
            to: edges(["1": all, "2": own, "3": .http(.init(access: .init())), "4": all, "6": all]))
        #expect(plan.modes == ["1": true, "2": false])
        #expect(plan.binds == [EdgePlan.Binding(address: address("6"), edge: "6sendmail", isForAll: true)])
    }

    private static func text(_ step: EdgePlan.Step) -> String {
        ([step.edge.name] + step.leaves.map { "-\(name($0))" } + step.enters.map { "+\(name($0))" })
            .joined(separator: " ")
    }

    private static func name(_ address: ListenAddress) -> String {
        guard case .unix(let path) = address else { return "?" }
        return path
    }

    /// Whatever follows whatever: carried out step by step, what accepts where is what the new configuration says, no
    /// socket is made twice or lost, and what both have is never touched.
    @Test func random() {
        var generator = SeededGenerator(seed: 13)
        func configuration() -> [Configuration.Edge] {
            var addresses = (1...6).map(String.init).shuffled(using: &generator)
            return ["a", "b", "c", "d"].shuffled(using: &generator).prefix(Int.random(in: 1...4, using: &generator)).map
            {
                let count = Int.random(in: 0...min(2, addresses.count), using: &generator)
                defer { addresses.removeFirst(count) }
                return Configuration.Edge(name: $0, listen: addresses.prefix(count).map(address))
            }
        }
        var now: [Configuration.Edge] = []
        var sockets: Set<ListenAddress> = []
        var accepting: [String: Set<ListenAddress>] = [:]
        for _ in 0..<2000 {
            let next = configuration()
            let plan = EdgePlan(from: now, to: next)
            for binding in plan.binds { #expect(sockets.insert(binding.address).inserted) }
            for address in plan.releases { #expect(sockets.remove(address) != nil) }
            for name in plan.ends { #expect(accepting.removeValue(forKey: name) != nil) }
            for step in plan.steps {
                var edge = accepting[step.edge.name] ?? []
                for address in step.leaves { #expect(edge.remove(address) != nil) }
                for address in step.enters { #expect(edge.insert(address).inserted && sockets.contains(address)) }
                accepting[step.edge.name] = edge
            }
            #expect(accepting == Dictionary(uniqueKeysWithValues: next.map { ($0.name, Set($0.listen)) }))
            #expect(sockets == Set(next.flatMap(\.listen)))
            now = next
        }
    }
}
