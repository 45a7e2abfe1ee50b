// The gate's tables as typed values: who is asked about a client before his message is taken. Read by GateReader; the
// composition root makes of them what an edge asks. [[rule]] is SlimtaRules' own type.

package import SlimtaMail
package import SlimtaRules

extension Configuration {
    /// `[[policy_service]]`: a server that speaks Postfix's policy delegation protocol, asked at some stages.
    package struct PolicyService: Sendable, Equatable {
        /// Its name in the log; no other service has it. Without `name`, what `to` says.
        package var name: String
        /// `at`: when it is asked, at least one; the protocol has no word for the other stages.
        package var stages: Set<Stage>
        /// Where it listens.
        package var to: ServiceAddress
        /// What a question may take in all, second tries included.
        package var timeout: Duration = .seconds(5)
        /// What holds if there is no answer in time, or none that is one.
        package var onFailure = PolicyOnFailure.tempfail
        /// The attribute `policy_context`: free text; empty: none.
        package var context = ""
    }

    /// `[spf]`: what a result of RFC 7208 means at MAIL.
    package struct SPF: Sendable, Equatable {
        /// The replies, `{reason}` and other placeholders in them; a result that is not there is no reason for one.
        package var replies: [SPFResult: ReplyTemplate] = [:]
        /// Whether clients that have authenticated are checked as well.
        package var authenticated = false
        /// Whether each message that was checked gets a Received-SPF field (RFC 7208 section 9.1).
        package var receivedSPF = false
        /// What a check may take in all; then it is temperror (RFC 7208 section 4.6.4).
        package var timeout: Duration = .seconds(20)

        /// Whether somebody wants a result, rules aside.
        package var isWanted: Bool { receivedSPF || !replies.isEmpty }
    }

    /// `[[dnsbl]]`: a list in the DNS that rules name (RFC 5782).
    package struct DNSBL: Sendable, Equatable {
        /// Where its zone is said.
        package enum Zone: Sendable, Hashable {
            /// `zone`: a domain name in lower case, without a dot at its end.
            case name(String)
            /// `zone_file`: an absolute path or `credential:NAME`; the content without its line's end is the zone, which has
            /// a key in it.
            case file(String)
        }

        /// The name by which rules call it; no other list has it.
        package var name: String
        /// Where it is in the DNS.
        package var zone: Zone
        /// What is looked up in it.
        package var of = ListSubject.client
        /// IPv4 addresses as numbers: an answer in one of these is a listing. All are in 127.0.0.0/8 (RFC 5782 section 2.1).
        package var answers: [ClosedRange<UInt32>]
        /// How long an answer is waited for; all lists are asked at once.
        package var timeout: Duration = .seconds(3)
        /// Whether it is asked for clients that have authenticated as well.
        package var authenticated = false

        /// The zone that a `zone_file` with this content names, as ``Zone/name(_:)`` has it; nil: none.
        package static func zone(inFile content: some Collection<UInt8>) -> String? {
            var text = String(decoding: content, as: UTF8.self)[...]
            while text.last?.isNewline == true { text.removeLast() }
            return HostName.fold(text.utf8.last == UInt8(ascii: ".") ? text.dropLast() : text)
        }
    }
}
