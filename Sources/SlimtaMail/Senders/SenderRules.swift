// [sender_check] and [[senders]] of slimta.conf: what is checked of who sends as whom, and which logins have more rights
// than their back end says. Part of TransactionRules, so that it holds for all that mail comes in by.

/// What is checked of the addresses that logins use. Whoever has not logged in is not asked.
package struct SenderRules: Hashable, Sendable {
    /// What becomes of a message without From.
    package enum MissingFrom: String, Hashable, Sendable, CaseIterable {
        /// It gets one with the first address of the login.
        case add
        /// 550 5.6.0.
        case refuse
    }

    /// `[[senders]]`: what some logins may use besides what is said of them elsewhere.
    package struct Table: Hashable, Sendable {
        /// Who they are.
        package var logins: [Glob]
        /// `local`: whether they are users of this machine, and not logins of `[auth]`: of two with one name each has only what
        /// is said of it.
        package var isLocal: Bool
        /// What they may use in MAIL FROM.
        package var mailFrom: [SenderPattern]
        /// What they may use in From and Sender.
        package var from: [SenderPattern]

        /// Each is what its property says.
        package init(logins: [Glob], isLocal: Bool = false, mailFrom: [SenderPattern], from: [SenderPattern]) {
            self.logins = logins
            self.isLocal = isLocal
            self.mailFrom = mailFrom
            self.from = from
        }

        fileprivate func isAbout(_ login: String, isLocal: Bool) -> Bool {
            self.isLocal == isLocal && logins.contains { $0.matches(login) }
        }
    }

    /// `mail_from`: whether MAIL FROM has to be a login's.
    package var checksMailFrom = true
    /// `from`: whether From and Sender of the header have to be.
    package var checksFrom = false
    /// `fold_case` and `extension`.
    package var matching = SenderMatching()
    /// `missing_from`, where From is checked.
    package var missingFrom = MissingFrom.add
    /// `add_sender`: whether a message gets a Sender field where one is owed (RFC 6409 section 8.1).
    package var addsSender = false
    /// `allow_resent`: whether Resent-From counts in place of From, where there is one.
    package var allowsResent = false
    /// `[[senders]]`
    package var tables: [Table] = []

    /// As slimta.conf has it by default.
    package init() {}

    /// What a login may use in MAIL FROM; nil: anything.
    ///
    /// - Parameters:
    ///   - own: what its back end says of it; nil: nothing, which means anything where no table is about the login.
    ///   - isLocal: whether it is a user of this machine.
    package func mailFrom(of login: String, _ own: SenderRights?, isLocal: Bool = false) -> SenderRights? {
        checksMailFrom ? rights(of: login, own, isLocal, \.mailFrom) : nil
    }

    /// What is to be done with the headers of a login's messages; nil: nothing. The rest is as for ``mailFrom(of:_:isLocal:)``.
    package func header(of login: String, _ own: SenderRights?, isLocal: Bool = false) -> HeaderSenders? {
        guard checksFrom || addsSender else { return nil }
        return HeaderSenders(login: login, rights: rights(of: login, own, isLocal, \.from), rules: self)
    }

    /// Whether nothing is said of a login of `[auth]`, so that it may send as anybody. `own` is as for
    /// ``mailFrom(of:_:isLocal:)``.
    package func isUnbound(_ login: String, _ own: SenderRights?) -> Bool {
        own == nil && !tables.contains { $0.isAbout(login, isLocal: false) }
    }

    private func rights(
        of login: String, _ own: SenderRights?, _ isLocal: Bool, _ entries: KeyPath<Table, [SenderPattern]>
    ) -> SenderRights? {
        let tables = tables.filter { $0.isAbout(login, isLocal: isLocal) }
        guard !tables.isEmpty else { return own }
        // A table that has nothing for one side leaves that side shut, and not open.
        var rights = own ?? SenderRights([])
        for table in tables { rights.patterns += table[keyPath: entries] }
        return rights
    }
}

extension Reply {
    /// What is said to a sender that is not the login's.
    ///
    /// - Parameters:
    ///   - code: 553 to MAIL, 550 to the whole message.
    ///   - place: where it stands: " in From", or nothing.
    package init(_ code: UInt16, sender: Mailbox, in place: String = "", notOf login: String, allowsUTF8: Bool) {
        let shown = allowsUTF8 ? sender.text : sender.forNextHop.text.visibleASCII
        let name = login.cut(toOctets: 100).visibleASCII
        self.init(code, .init(5, 7, 1), "<\(shown)>\(place) is not a sender that login \(name) may use")
    }
}
