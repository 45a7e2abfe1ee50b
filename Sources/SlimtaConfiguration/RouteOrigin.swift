// `senders` and `logins` of [[route]]: whose mail goes that way. Read by RelayReader, asked by the composition root.

package import SlimtaMail

/// Who may send what a route takes. Both conditions have to be met, each by one of its entries.
package struct RouteOrigin: Sendable, Equatable {
    /// Of MAIL FROM; nil: whatever it is, the null sender of notices too.
    package var senders: SenderRights?
    /// Of the login; nil: whoever it is, and nobody as well.
    package var logins: [Glob]?

    /// Everybody.
    package init() {}

    /// Whether it is everybody.
    package var isEverybody: Bool { senders == nil && logins == nil }

    /// Whether this sender with this login is one of them. An extension ("+") of an address is that address.
    package func contains(_ sender: Mailbox?, login: String?) -> Bool {
        if let senders {
            guard let sender, senders.allow(sender, SenderMatching()) else { return false }
        }
        if let logins {
            guard let login, logins.contains(where: { $0.matches(login) }) else { return false }
        }
        return true
    }

    init(_ table: Section) {
        senders = table["senders"]?.list(of: "senders", mayBeEmpty: false) { element in
            element.text(SenderPattern.allowed) { SenderPattern($0) == nil ? nil : $0 }
        }.map { SenderRights($0, separators: "+") }
        logins = table["logins"]?.list(of: "logins", mayBeEmpty: false) { element in
            element.text("a login, or a glob such as \"*@example.com\"") { $0.isEmpty ? nil : Glob($0) }
        }
    }
}
