// What SPFCheck has to know from DNS, and what may be answered. Asked and answered by the driver of SlimtaEdge/Lookups, in
// tests by zones in memory.

package import SlimtaMail

/// One question to DNS.
package struct SPFLookup: Hashable, Sendable {
    /// The types of records that RFC 7208 knows. SPF's own type, 99, is never asked for (section 3.1).
    package enum RecordType: Sendable {
        /// A policy, or an explanation.
        case txt
        /// IPv4 addresses.
        case a
        /// IPv6 addresses.
        case aaaa
        /// The hosts that take mail.
        case mx
        /// The names of an address.
        case ptr
    }

    /// What is looked for.
    package let type: RecordType
    /// The name: labels of any octets, with dots between them and none at the end. It is always one that DNS can carry:
    /// labels of 1 to 63 octets, 253 in all.
    package let name: [UInt8]
}

/// What DNS says to an ``SPFLookup``. No records (NOERROR without an answer) are an empty array.
package enum SPFAnswer: Hashable, Sendable {
    /// To `txt`: of each record its strings, joined (RFC 7208 section 3.3).
    case texts([[UInt8]])
    /// To `a` and `aaaa`.
    case addresses([IPAddress])
    /// To `mx`, in the order of preference, "" for a null MX; and to `ptr`.
    case names([String])
    /// There is no such name (NXDOMAIN).
    case noSuchName
    /// Nobody could say now; why, in words for logs and replies.
    case failed(String)
}
