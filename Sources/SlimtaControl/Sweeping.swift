// What Control keeps in mind while it holds what logins have sent shortly before they were held.

import SlimtaRules

/// Whose recent mail is looked for.
struct Sweeping {
    /// Logins whose mail is being held.
    var underWay: Set<QuotaSubject> = []
    /// Those of whom the log has that it cannot be: it is tried every few seconds.
    var failing: Set<QuotaSubject> = []
}
