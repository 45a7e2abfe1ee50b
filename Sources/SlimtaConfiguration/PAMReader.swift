// [auth.pam]: by which service PAM is asked who clients are. Called by the reader of [auth].

import SlimtaMail

/// `[auth.pam]`.
package struct PAMSettings: Sendable, Equatable {
    /// What `system_error` may say: what PAM_SYSTEM_ERR means.
    package enum SystemError: String, Sendable, CaseIterable {
        /// Something is wrong here, and clients are to come again.
        case unavailable
        /// No: pam_exec says it so, whose program has said no.
        case refuse
    }

    /// The name of PAM's service.
    package var service = "slimtad"
    /// The folder of its file: an absolute path; nil: the system's.
    package var directory: String?
    /// How long PAM may take.
    package var timeout: Duration = .seconds(10)
    /// The domain of the users' addresses; nil: this machine's name.
    package var domain: String?
    /// What PAM_SYSTEM_ERR means.
    package var systemError = SystemError.unavailable

    /// The defaults.
    package init() {}
}

extension PAMSettings {
    init(_ table: Section) {
        service =
            table["service"]?.text("the name of a PAM service: letters, digits and any of \"-_.\"") { name in
                (1...64).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: ".")
                    && name.utf8.allSatisfy(Setting.isNameOctet) ? name : nil
            } ?? service
        directory = table["directory"]?.absolutePath()
        timeout = table["timeout"]?.duration(.seconds(1) ... .seconds(120)) ?? timeout
        domain = table["domain"]?.text("a domain name such as \"example.com\"") { HostName.fold($0) }
        systemError = table["system_error"]?.choice() ?? systemError
        table.refuseUnknownKeys()
    }
}
