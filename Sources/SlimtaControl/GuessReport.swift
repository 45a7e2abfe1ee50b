// Who has guessed passwords, as the daemon tells it to Control.

package import SlimtaMail

/// Somebody whose failed logins have consequences.
package struct GuessReport: Sendable {
    /// "address", "network" or "login".
    package var kind: String
    /// An address, the network of an IPv6 address, a network, or a login.
    package var name: String
    /// Failures that are not forgotten yet; of what is turned away, those that led to it.
    package var failures: Int
    /// About how many different logins have failed; of a login: nil.
    package var logins: Int?
    /// How many seconds its next try waits.
    package var delay: Int
    /// Until when it is turned away; nil: it is not.
    package var until: Timestamp?
    /// How often it has been of late.
    package var times: Int

    /// Each is what its property says.
    package init(
        kind: String, name: String, failures: Int, logins: Int?, delay: Int, until: Timestamp?, times: Int
    ) {
        self.kind = kind
        self.name = name
        self.failures = failures
        self.logins = logins
        self.delay = delay
        self.until = until
        self.times = times
    }
}
