// Asks DNS for the records of keys: for the keeper of keys, and for `slimtad dkim check`.

import SlimtaConfiguration
import SlimtaDKIM
import SlimtaDNS
import SlimtaNet
import SlimtaSystem

/// Asks by a resolver of its own, and of each round of questions another one.
///
/// What is remembered is of no use here, and does harm: a gate that had asked before the record was there would wait for its own
/// memory. libunbound's `cache-max-ttl` and `cache-max-negative-ttl` are no way out, for they hold for the whole process: the
/// exchangers of all mail would be forgotten as fast, or a reload's resolver would end what the gate's had said.
struct DKIMQuestions: Sendable {
    /// What DNS says of one name.
    struct Answer: Sendable {
        let name: SelectorName
        let answer: DKIMKeyAnswer
        /// How long others may remember it.
        var ttl = Duration.zero
        /// How long others may remember that there is nothing; zero: nobody has asked. nil: DNS did not say.
        var negativeTTL: Duration? = .zero
    }

    /// Sockets to servers.
    private static let sockets = 16
    /// Files that are open while questions are.
    static let files = FileBudget.resolverFiles + sockets
    /// How many names are asked for at a time.
    private static let atOnce = 8
    /// How long one may take.
    private static let limit = Duration.seconds(30)

    private let makeResolver: @Sendable () throws -> Resolver

    init(_ configuration: Configuration) {
        makeResolver = { try configuration.makeResolver(sockets: Self.sockets) }
    }

    /// Asks for all of `names`; `answered` is told of each as it comes. Also asks how long others may remember that there was
    /// nothing, for those that `isNew` says yes to.
    func ask(
        _ names: [SelectorName], isNew: @Sendable (SelectorName) -> Bool, answered: @Sendable (Answer) -> Void
    ) async {
        func fail(_ why: String) { for name in names { answered(Answer(name: name, answer: .failed(why))) } }
        guard !names.isEmpty else { return }
        // libunbound ends the process if it finds no file for its threads.
        guard FileLimits.hasRoom(for: Self.files) else { return fail("too many files are open") }
        let resolver: Resolver
        do { resolver = try makeResolver() } catch { return fail("\(error)") }
        await resolver.waitUntilStarted()
        await withTaskGroup(of: Answer.self) { group in
            var rest = names[...]
            func next() {
                guard let name = rest.popFirst() else { return }
                let isNew = isNew(name)
                group.addTask { await Self.answer(name, isNew: isNew, resolver) }
            }
            for _ in 0..<Self.atOnce { next() }
            for await answer in group {
                if !Task.isCancelled { answered(answer) }
                next()
            }
        }
        await resolver.close()
    }

    private static func answer(_ name: SelectorName, isNew: Bool, _ resolver: Resolver) async -> Answer {
        var answer =
            await within(limit) { await records(of: name, resolver) }
            ?? Answer(name: name, answer: .failed("no answer within 30 seconds"))
        if isNew { answer.negativeTTL = await within(limit) { await memory(of: name, resolver) } ?? nil }
        return answer
    }

    private static func records(of name: SelectorName, _ resolver: Resolver) async -> Answer {
        guard let record = QueryName(name.recordName) else {
            return Answer(name: name, answer: .failed("DNS can have no such name"))
        }
        do throws(DNSError) {
            let answer = try await resolver.txt(record)
            guard !answer.records.isEmpty else { return Answer(name: name, answer: .absent) }
            return Answer(name: name, answer: .records(answer.records), ttl: .seconds(Int64(answer.ttl)))
        } catch {
            switch error {
            case .noSuchName: return Answer(name: name, answer: .absent)
            case .temporary, .bogus, .invalidName: return Answer(name: name, answer: .failed(error.reason))
            }
        }
    }

    /// How long others may remember that there is no such name, or no record there: what the zone says that has it, and that
    /// to which a CNAME leads. nil: one of them does not say, now.
    private static func memory(of name: SelectorName, _ resolver: Resolver) async -> Duration? {
        guard let own = await memory(in: name.recordName, resolver) else { return nil }
        guard let record = QueryName(name.recordName) else { return own }
        let target: String?
        do throws(DNSError) {
            target = try await resolver.txt(record).canonicalName
        } catch {
            switch error {
            case .noSuchName: target = nil
            case .temporary, .bogus, .invalidName: return nil
            }
        }
        guard let target else { return own }
        return await memory(in: target, resolver).map { max(own, $0) }
    }

    private static func memory(in name: String, _ resolver: Resolver) async -> Duration? {
        var rest = name[...]
        while let zone = QueryName(rest) {
            do throws(DNSError) {
                let answer = try await resolver.soa(zone)
                // RFC 2308 section 4 has the record's own TTL as another limit. Of a forwarder we see what is left of that, and
                // not what others began with.
                if let soa = answer.records.first { return .seconds(Int64(soa.minimum)) }
            } catch {
                switch error {
                case .noSuchName: break
                case .temporary, .bogus, .invalidName: return nil
                }
            }
            guard let dot = rest.firstIndex(of: ".") else { break }
            rest = rest[rest.index(after: dot)...]
        }
        return .zero
    }
}
