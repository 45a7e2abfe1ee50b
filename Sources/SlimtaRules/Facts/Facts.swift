// What is known of a client and its mail at a stage: what rules judge by. Filled in by the edge from its session, or by
// whoever explains a session from what an operator made up.

package import NIOCore
package import SlimtaMail
import Synchronization

/// A fact that has to be looked up. What the session itself knows is always there.
package enum Fact: Hashable, Sendable {
    /// The names of the client's address.
    case ptr
    /// Whether the sender's domain says that the client may send for it.
    case spf
    /// Whether the list of this name has the client, the sender's domain or the EHLO name.
    case dnsbl(String)
}

/// All that rules can judge by.
package struct Facts: Sendable {
    /// The reverse-path of a transaction.
    package enum Sender: Hashable, Sendable {
        /// `<>`, of bounces.
        case null
        /// An address.
        case mailbox(Mailbox)

        /// The reverse-path as envelopes have it: nil is the null one.
        package init(_ mailbox: Mailbox?) { self = mailbox.map { .mailbox($0) } ?? .null }
    }

    /// The client.
    package var client: ConnectionFacts.Endpoint
    /// The name of the edge.
    package var edge: String
    /// The time of day where we are.
    package var now: LocalTime
    /// Whether the client said something before it was greeted.
    package var isEarlyTalker = false
    /// What was agreed with the client; nil in clear.
    package var tls: TLSFacts?
    /// What the proxy before us had agreed with the client, as it says; nil: nothing, or there is no proxy that says it.
    package var proxyTLS: TLSDescription?
    /// How the proxy before us names the connection; nil: it does not say, or there is none.
    package var uniqueID: String?
    /// Whom the client's certificate is for; nil: it has shown none.
    package var certificate: CertificateIdentity?
    /// EHLO's argument; nil before.
    package var ehlo: String?
    /// Who has logged in; nil: nobody.
    package var login: String?
    /// The reverse-path; nil: no transaction.
    package var sender: Sender?
    /// At ``Stage/rcpt``: the recipient that is asked about.
    package var recipient: Mailbox?
    /// The recipients that were accepted before.
    package var recipients: [Mailbox] = []
    /// The octets of the message: what MAIL says, nil if it says nothing; at ``Stage/message`` what they are.
    package var size: Int?
    /// The header, at ``Stage/message``.
    package var header: HeaderFacts?
    /// What the message is made of, at ``Stage/message``, if a rule may ask.
    package var content: ContentFact?
    /// How many messages the client and the login have sent lately.
    package var rates = RateFacts()
    /// nil: not looked up.
    package var ptr: PTRFact?
    /// nil: not looked up.
    package var spf: SPFFact?
    /// By the list's name; absent: not looked up.
    package var listings: [String: ListingFact] = [:]

    /// What is known when a client connects.
    package init(client: ConnectionFacts.Endpoint, edge: String, now: LocalTime) {
        self.client = client
        self.edge = edge
        self.now = now
    }
}

/// The header of a message.
package struct HeaderFacts: Sendable {
    /// What has been read of it: any number of rules may ask for one field, which may have hundreds of kilobytes.
    private final class Memory: Sendable {
        let values = Mutex<[String: [String]]>([:])
    }

    private let block: HeaderBlock
    private let head: ByteBuffer
    private let memory = Memory()

    /// What is found in `head`, the beginning of a message as the client sent it. Lines of a mailbox file before the first
    /// field are passed over: they do not hide the header from rules, as they are dropped before the message is stored.
    package init(of head: ByteBuffer) {
        var head = head
        head.moveReaderIndex(forwardBy: head.withUnsafeReadableBytes { HeaderBlock.mailboxLines(in: $0).end })
        self.head = head
        block = HeaderBlock(scanning: head)
    }

    /// Whether the end of the header was seen.
    package var isComplete: Bool { block.isComplete }

    /// The values of all fields of a name, whatever its case: unfolded (RFC 5322 section 2.2.3), without blanks at their
    /// ends. Octets that are no UTF-8 are replaced. Behind a value with encoded words stands what they say.
    package func values(of name: String) -> [String] {
        let name = name.asciiLowercased()
        if let known = memory.values.withLock({ $0[name] }) { return known }
        let converters = EncodedWordReader.Converters()
        let values = written(in: name).flatMap { value in
            [value] + (EncodedWordReader.decoded(value, by: converters).map { [$0] } ?? [])
        }
        memory.values.withLock { $0[name] = values }
        return values
    }

    /// Those values as they are written, one for each field.
    func written(in name: String) -> [String] {
        let name = Array(name.asciiLowercased().utf8)
        return head.withUnsafeReadableBytes { octets in
            block.fields.compactMap { field in
                guard octets[field.name].elementsEqual(name, by: { $0.asciiLowercased() == $1 }) else { return nil }
                let rest = octets[field.name.upperBound..<field.range.upperBound].drop { $0 != UInt8(ascii: ":") }
                let value = rest.dropFirst().filter { $0 != UInt8(ascii: "\r") && $0 != UInt8(ascii: "\n") }
                func isBlank(_ octet: UInt8) -> Bool { octet == UInt8(ascii: " ") || octet == UInt8(ascii: "\t") }
                let start = value.firstIndex { !isBlank($0) } ?? value.endIndex
                let end = value.lastIndex { !isBlank($0) }.map { $0 + 1 } ?? value.endIndex
                return String(decoding: value[start..<max(start, end)], as: UTF8.self)
            }
        }
    }
}

/// The names of a client's address.
package struct PTRFact: Hashable, Sendable {
    /// Those whose addresses have the client among them, in lower case.
    package var confirmed: [String]
    /// What the PTR record says, confirmed or not; nil: none.
    package var reverse: String?
    /// Why nobody could say; nil: it is known.
    package var failure: String?

    /// What was found.
    package init(confirmed: [String] = [], reverse: String? = nil, failure: String? = nil) {
        self.confirmed = confirmed
        self.reverse = reverse
        self.failure = failure
    }
}

/// What SPF says of the client and the sender (RFC 7208).
package struct SPFFact: Hashable, Sendable {
    /// The result.
    package var result: SPFResult
    /// Why, in words that may go into a reply: the domain's explanation or ours.
    package var reason: String
    /// The field that tells it (section 9.1), whole, with CRLF; nil: there is nothing to tell.
    package var receivedSPF: String?

    /// What was found.
    package init(_ result: SPFResult, reason: String, receivedSPF: String? = nil) {
        self.result = result
        self.reason = reason
        self.receivedSPF = receivedSPF
    }
}

/// What a list says of what it was asked about.
package enum ListingFact: Hashable, Sendable {
    /// It has it not, or was not asked because it cannot have it.
    case notListed
    /// It has it. `text`: why, in words that may go into a reply; nil: none, or not asked for.
    case listed([IPAddress], text: String?)
    /// Nobody could say, for this reason. That is no listing.
    case failed(String)
}
