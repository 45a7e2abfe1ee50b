// How lookups ask name servers: each question in a bounded line, on behalf of one client, and with an end. Used by all that
// looks something up for a session, and by the checks of lists.

internal import SlimtaDNS
internal import SlimtaMail

/// The way from one client's lookups to the resolver.
struct LookupQuestions: Sendable {
    typealias Answer<Record: Sendable & Hashable> = Result<DNSAnswer<Record>, DNSError>

    /// Nothing was asked: there is no room in the line.
    static let noRoom = DNSError.temporary("too many lookups at once")

    let resolver: Resolver
    let line: LookupLine
    /// Whom the questions are counted for; nil: those of our own.
    let source: LookupLine.Source

    func a(_ name: QueryName) async -> Answer<ResolvedAddress> {
        await ask { () async throws(DNSError) in try await resolver.a(name) }
    }

    func aaaa(_ name: QueryName) async -> Answer<ResolvedAddress> {
        await ask { () async throws(DNSError) in try await resolver.aaaa(name) }
    }

    func mx(_ name: QueryName) async -> Answer<MXRecord> {
        await ask { () async throws(DNSError) in try await resolver.mx(name) }
    }

    func ptr(_ name: QueryName) async -> Answer<String> {
        await ask { () async throws(DNSError) in try await resolver.ptr(name) }
    }

    func txt(_ name: QueryName) async -> Answer<[UInt8]> {
        await ask { () async throws(DNSError) in try await resolver.txt(name) }
    }

    private func ask<Record>(
        _ question: @Sendable () async throws(DNSError) -> DNSAnswer<Record>
    ) async -> Answer<Record> {
        let answer = await line.run(for: source) { () async -> Answer<Record> in
            do throws(DNSError) { return .success(try await question()) } catch { return .failure(error) }
        }
        return answer ?? .failure(Self.noRoom)
    }
}

extension DNSAnswer where Record == ResolvedAddress {
    /// The records as addresses.
    var addresses: [IPAddress] { records.compactMap { IPAddress($0.text) } }
}
