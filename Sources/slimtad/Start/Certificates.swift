// The certificates of [tls]: read at start and at reload with the other secrets, and looked at in between (World+Renewal),
// because those that renew them do not always say so.

import SlimtaConfiguration
import SlimtaMail
import SlimtaSystem
import SlimtaTLS

/// The certificates in use, and the files that they are from.
struct Certificates: Sendable {
    /// What is in the files of a certificate and its key.
    private struct PEMFiles: Equatable, Sendable {
        var certificate: [UInt8]
        var key: [UInt8]
    }

    /// Why a file's new content is not used.
    struct Refusal: Sendable {
        let path: String
        let reason: String
    }

    /// When a certificate ends, or a list of revoked certificates of clients.
    struct Expiry: Sendable {
        let path: String
        let time: Timestamp
        var isOfRevocations = false

        /// Less than two weeks before it there is little time left for whoever renews a certificate; lists last no longer.
        func isNear(_ now: Timestamp) -> Bool { time - now < .seconds(isOfRevocations ? 0 : 14 * 86400) }

        /// What the operator is told of it; nil: there is time.
        func warning(_ now: Timestamp) -> String? {
            guard isNear(now) else { return nil }
            if isOfRevocations {
                return "revocation list in \(path) has ended: certificates of clients are no longer good"
            }
            return time > now
                ? "certificate \(path) expires in \(age((time - now).milliseconds / 1000))"
                : "certificate \(path) has expired"
        }
    }

    /// What edges speak TLS with.
    let context: TLSServerContext
    /// Of each certificate, in the file's order.
    let expiries: [Expiry]
    private let minimum: Configuration.TLS.Version
    private let contents: [(pair: Configuration.TLS.Pair, content: PEMFiles)]
    private let clientCA: ClientCA?
    private let asksClients: Bool

    /// `client_ca`, and what is in it.
    private struct ClientCA: Equatable {
        var path: String
        var content: [UInt8]
    }

    /// Reads all files.
    ///
    /// - Parameter previous: what is in use now. A pair that cannot be used stays what it is there, and is told; without
    ///   it that is an error. If nothing has changed, the result is `previous` itself.
    /// - Parameter service: who may own the keys besides root and the process.
    static func load(
        _ tls: Configuration.TLS, keeping previous: Certificates? = nil, service: UInt32? = nil
    ) throws(Failure) -> (Certificates, [Refusal]) {
        var contents: [(pair: Configuration.TLS.Pair, content: PEMFiles)] = []
        var refusals: [Refusal] = []
        var contexts: [TLSServerContext] = []
        let clientCA = try tls.clientFile.map { file throws(Failure) in
            ClientCA(path: file.reference, content: try read(file, service))
        }
        for (pair, certificate, key) in tls.files {
            var content: PEMFiles
            do throws(Failure) {
                content = PEMFiles(certificate: try read(certificate, service), key: try read(key, service))
                contexts.append(try context(content, tls, pair, certificate.key))
            } catch {
                guard let old = previous?.contents.first(where: { $0.pair == pair }) else { throw error }
                content = old.content
                contexts.append(try context(content, tls, pair, certificate.key))
                refusals.append(Refusal(path: pair.certificate, reason: error.message))
            }
            contents.append((pair, content))
        }
        if let previous, previous.minimum == tls.minimum, previous.clientCA == clientCA,
            previous.asksClients == tls.asksClients, previous.contents.elementsEqual(contents, by: { $0 == $1 })
        {
            return (previous, refusals)
        }
        // OpenSSL asks the first one for the others: it has to be made last.
        let others = Array(contexts.dropFirst())
        let main = try context(contents[0].content, tls, tls.main, "tls.certificate", others: others)
        var expiries = zip(contents, contexts).map {
            Expiry(path: $0.pair.certificate, time: Timestamp(milliseconds: $1.certificateExpiry * 1000))
        }
        if let clientCA, let end = main.revocationExpiry {
            expiries.append(
                Expiry(path: clientCA.path, time: Timestamp(milliseconds: end * 1000), isOfRevocations: true))
        }
        return (
            Certificates(
                context: main, expiries: expiries, minimum: tls.minimum, contents: contents, clientCA: clientCA,
                asksClients: tls.asksClients),
            refusals
        )
    }

    private static func read(_ file: NamedFile, _ service: UInt32?) throws(Failure) -> [UInt8] {
        do throws(SystemError) {
            return try file.read(service: service)
        } catch {
            throw Failure(.configuration, "\(file.key): \(error)")
        }
    }

    /// What edges speak TLS with, of what is in the files of one certificate; `slimtad check` makes one too.
    static func context(
        certificate: [UInt8], key: [UInt8], _ tls: Configuration.TLS, others: [TLSServerContext] = []
    ) throws(TLSError) -> TLSServerContext {
        try TLSServerContext(
            certificatePEM: certificate, keyPEM: key, minimum: tls.minimum == .tls13 ? .v1_3 : .v1_2, others: others,
            clientTrustFile: tls.clientCA, asksClients: tls.asksClients)
    }

    private static func context(
        _ content: PEMFiles, _ tls: Configuration.TLS, _ pair: Configuration.TLS.Pair, _ key: String,
        others: [TLSServerContext] = []
    ) throws(Failure) -> TLSServerContext {
        do throws(TLSError) {
            return try context(certificate: content.certificate, key: content.key, tls, others: others)
        } catch {
            if error.code == .trust { throw Failure(.configuration, "tls.client_ca: \(error)") }
            throw Failure(.configuration, "\(key): \(pair.certificate) and \(pair.key): \(error)")
        }
    }
}
