// What `[auth] backends` may have in it. Configuration has it, the composition root makes back ends of it.

/// Who knows users.
package enum AuthenticationBackEnd: String, Sendable, CaseIterable {
    /// Users and the hashes of their passwords are in the users file.
    case file
    /// PAM is asked, as `[auth.pam]` says.
    case pam
    /// Dovecot's authentication service is asked.
    case dovecot
    /// Tokens are checked, as `[auth.oauth]` says.
    case oauth
}
