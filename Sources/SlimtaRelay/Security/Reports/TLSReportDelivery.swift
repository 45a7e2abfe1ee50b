// How a TLS report gets to those who want it (RFC 8460 sections 3 and 5): over HTTPS, or as a message that enters our own queue.
// TLSReports calls it.

package import NIOCore
package import SlimtaMail
import SlimtaNet

/// A report as a message, for who puts messages into the queue.
package struct TLSReportMessage: Sendable {
    /// Somebody reads it: sender of the envelope, and of the message. Its domain signs.
    package let sender: Mailbox
    /// Who wants it.
    package let recipient: Mailbox
    let report: TLSReport
    let compressed: [UInt8]

    /// All octets of it. `id`: the queue's name of it.
    package func content(_ id: QueueID, at time: Timestamp) -> ByteBuffer {
        // No line of it begins so: base64 has no such character.
        TLSReportMail(
            report: report, compressed: compressed, recipient: recipient, date: time, zoneOffset: time.localOffset,
            id: id, boundary: "=_\(id)"
        ).octets
    }
}

/// What it takes to send reports.
package struct TLSReportDelivery: Sendable {
    /// Puts a message into the queue. Why it is not there; nil: it is.
    package typealias Post = @Sendable (TLSReportMessage) async -> String?

    static let mediaType = "application/tlsrpt+gzip"

    private let verifying, lenient: HTTPSClient
    private let post: Post

    /// - Parameters:
    ///   - verifying: asks servers that have good certificates; it goes nowhere but where a stranger's word may lead us.
    ///   - lenient: the same without regard to certificates.
    package init(verifying: HTTPSClient, lenient: HTTPSClient, post: @escaping Post) {
        (self.verifying, self.lenient, self.post) = (verifying, lenient, post)
    }

    /// Destinations of a report, and what one may take: the reports of others wait meanwhile.
    private static let tried = 3
    private static let limits = {
        var limits = HTTPSClient.Limits()
        limits.time = .seconds(20)
        return limits
    }()

    /// Tries its destinations in their order: who has taken it, or why nobody has.
    func send(_ letter: TLSReportBook.Letter) async -> Result<TLSReportRecord.Destination, Refusal> {
        var octets: [UInt8] = []
        letter.report.json.write(to: &octets)
        guard let compressed = Gzip.compress(octets) else { return .failure(Refusal(why: "zlib has no memory")) }
        var reasons: [String] = []
        for destination in letter.destinations.prefix(Self.tried) {
            let refusal: String?
            switch destination {
            case .mail(let mailbox):
                refusal = await post(
                    TLSReportMessage(
                        sender: letter.report.submitter.contact, recipient: mailbox, report: letter.report,
                        compressed: compressed))
            case .https(let host, let target):
                refusal = await send(compressed, to: HTTPSClient.Place(host: host, target: target))
            }
            guard let refusal else { return .success(destination) }
            reasons.append("\(destination): \(refusal)")
        }
        return .failure(Refusal(why: reasons.joined(separator: "; ").cut(toOctets: 500)))
    }

    struct Refusal: Error {
        let why: String
    }

    private func send(_ compressed: [UInt8], to place: HTTPSClient.Place) async -> String? {
        let body = ByteBuffer(bytes: compressed)
        var answer = await verifying.post(body, of: Self.mediaType, to: place, limits: Self.limits)
        // RFC 8460 section 3: what is wrong with a domain's certificates must not keep the report of that from it.
        if case .failure(let failure) = answer, failure.isOfTLS {
            answer = await lenient.post(body, of: Self.mediaType, to: place, limits: Self.limits)
        }
        switch answer {
        case .success(let answer): return (200..<300).contains(answer.status) ? nil : "it answers \(answer.status)"
        case .failure(let failure): return failure.description
        }
    }
}
