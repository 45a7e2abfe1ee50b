// What is worth one line of the log a day. MailSigner has one for the domains whose mail it does not sign.

internal import SlimtaMail

/// Words that were told of today, as many as one day is worth.
struct DailyWords {
    /// Whoever may send can put any domain into From.
    private static let most = 1000

    private var day: Int64?
    private var words: Set<String> = []

    /// Whether a word has not been told of since the last midnight (UTC).
    mutating func isNew(_ word: String, at time: Timestamp) -> Bool {
        let today = time.seconds / 86400
        if day != today { (day, words) = (today, []) }
        return words.count < Self.most && words.insert(word).inserted
    }
}
