// Addresses as they are meant: for conditions of rules, and for policy services.

internal import SlimtaMail

extension Mailbox {
    /// `"a"@example.com` is a@example.com: no rule is to be got around by quotes, and Postfix, too, keeps addresses so.
    var unquoted: String { unquotedLocalPart + "@" + domain }
}
