// What the log says of sites: the hosts that take mail for a domain, and how much of it they take. A part of EventCatalogue.

extension EventCatalogue {
    /// What is told of sites.
    static let entriesOfSites: [Entry] = [
        Entry(
            "f1bb5f6f7cd64e4c8f6a90a35f0d2c1e", "postponed",
            "The site of @SLIMTA_RECIPIENT@ takes no mail now, or no more of it: @SLIMTA_REPLY@. The message waits "
                + "@SLIMTA_NEXT@; that was no attempt, and is no step towards the next one.")
    ]
}
