// One question to a DNS list, and what came of it. Run by SessionLookups.

internal import SlimtaDNS
internal import SlimtaRules

enum BlockListLookup {
    /// What a list says that was found to be no good.
    static let outOfOrder = ListingFact.failed("the list is out of order")

    /// Asks the list of `watch` about `name`, its text too if that is wanted and `name` is listed. Who is listed is told to
    /// `interim` before the text is asked for: it may come too late.
    static func find(
        _ name: QueryName, in watch: BlockListWatch, by questions: LookupQuestions,
        interim: @Sendable (ListingFact) -> Void
    ) async -> ListingFact {
        async let isUsable = watch.isUsable
        let answer = await questions.a(name)
        guard await isUsable else { return outOfOrder }
        switch answer {
        case .success(let answer):
            watch.answered()
            switch watch.list.judge(answer.addresses) {
            case .notListed: return .notListed
            case .refused(let address), .foreign(let address):
                watch.refused(with: address)
                return .failed("the list answers with the error \(address)")
            case .listed(let addresses):
                let listing = ListingFact.listed(addresses, text: nil)
                guard watch.list.wantsText else { return listing }
                interim(listing)
                guard case .success(let texts) = await questions.txt(name) else { return listing }
                return .listed(addresses, text: watch.list.text(texts.records))
            }
        case .failure(.noSuchName), .failure(.invalidName):
            watch.answered()
            return .notListed
        case .failure(LookupQuestions.noRoom): return .failed(LookupQuestions.noRoom.reason)
        case .failure(.temporary(let reason)):
            if !Task.isCancelled { watch.missed() }
            return .failed(reason)
        // The reason names the zone.
        case .failure(.bogus):
            if !Task.isCancelled { watch.missed() }
            return .failed("DNSSEC says that the answer is forged")
        }
    }
}
