// What a client's address is called, and whether its name leads back to it (RFC 8601 section 2.7.3). Run by SessionLookups
// when a rule has a condition of names, or a policy service wants them.

internal import SlimtaDNS
internal import SlimtaMail
internal import SlimtaRules

enum ClientNames {
    /// More names of an address than these are not looked at, as in RFC 7208 section 4.6.4.
    static let limit = 10

    /// Looks up the names of `address`, which are at `name`, then the addresses of these names: in one family, that of
    /// `address`.
    static func find(_ address: IPAddress, at name: QueryName, by questions: LookupQuestions) async -> PTRFact {
        let names: [String]
        switch await questions.ptr(name) {
        // Sorted: name servers turn records round with each answer.
        case .success(let answer): names = Array(Set(answer.records).sorted().prefix(limit))
        case .failure(.noSuchName), .failure(.invalidName): names = []
        case .failure(let error): return PTRFact(failure: error.reason)
        }
        var (confirmed, failure): ([String], String?) = ([], nil)
        await withTaskGroup(of: (String, Result<Bool, DNSError>).self) { group in
            for name in names { group.addTask { (name, await leads(name, to: address, by: questions)) } }
            for await (name, result) in group {
                switch result {
                case .success(let isConfirmed): if isConfirmed { confirmed.append(name) }
                case .failure(let error): failure = error.reason
                }
            }
        }
        return PTRFact(
            confirmed: confirmed.sorted(), reverse: confirmed.min() ?? names.first,
            failure: confirmed.isEmpty ? failure : nil)
    }

    private static func leads(
        _ name: String, to address: IPAddress, by questions: LookupQuestions
    ) async -> Result<Bool, DNSError> {
        guard let name = QueryName(name) else { return .success(false) }
        let answer = address.isIPv4 ? await questions.a(name) : await questions.aaaa(name)
        switch answer {
        case .success(let answer): return .success(answer.addresses.contains(address))
        case .failure(.noSuchName), .failure(.invalidName): return .success(false)
        case .failure(let error): return .failure(error)
        }
    }
}
