// What a line of a users file says of its user. UsersFile finds the line, and refuses it where this does not understand it.

internal import SlimtaCrypto
package import SlimtaMail
package import SlimtaSASL

extension UsersFile {
    /// What a line says of its user.
    package struct User: Hashable, Sendable {
        /// Of the password.
        package var hash: PasswordHash
        /// The addresses that the user may send as, each as `SenderPattern` has it; nil: the line has no list, which means any.
        /// A list in the file is never empty.
        package var senders: [String]?
        /// What SCRAM needs to know of the password, one for each hash.
        package var keys: [SCRAMHash: SCRAMKeys] = [:]
        /// Other passwords, each for one application.
        package var apps: [AppPassword] = []
        /// Digests (SHA-256) of certificates, or of their keys, that are the user's.
        package var certificates: [[UInt8]] = []
        /// Whether the user may not log in, although the password is kept.
        package var isDisabled = false
        /// The last day on which the user may log in, in UTC, such as "2027-01-31"; nil: there is none.
        package var expires: String?

        /// A user with nothing but a password.
        package init(hash: PasswordHash, senders: [String]? = nil) {
            self.hash = hash
            self.senders = senders
        }

        /// Why the user may not log in at this time; nil: it may.
        package func obstacle(at now: Timestamp) -> String? {
            if isDisabled { return "This login is disabled" }
            guard let expires, let day = Self.day(expires), day + .seconds(86400) <= now else { return nil }
            return "This login has expired"
        }

        /// The beginning of a day as ``expires`` has it; nil if it is none.
        package static func day(_ text: String) -> Timestamp? { Timestamp(isoDate: "\(text)T00:00:00Z") }

        /// What is behind the senders in the line, in its order.
        var settings: [String] {
            SCRAMHash.allCases.compactMap { hash in keys[hash].map { "\(hash.rawValue)=\($0.commaSeparated)" } }
                + apps.map { "app=\($0.text)" } + certificates.map { "certificate=\($0.hexadecimal)" }
                + (isDisabled ? ["disabled=yes"] : [])
                + (expires.map { ["expires=\($0)"] } ?? [])
        }

        /// Understands a setting, or says what is wrong with it.
        mutating func read(_ setting: String) -> String? {
            // RFC 5803's form of keys has no "=" in front.
            if let keys = SCRAMKeys(setting) { return take(keys) }
            guard let equals = setting.utf8.firstIndex(of: UInt8(ascii: "=")) else {
                return "\"\(setting.visible)\" is not KEY=VALUE"
            }
            let (key, value) = (setting[..<equals], String(setting[setting.utf8.index(after: equals)...]))
            if let hash = SCRAMHash(rawValue: String(key)) {
                guard let keys = SCRAMKeys(hash, commaSeparated: value) else {
                    return "\(key) is not ITERATIONS,SALT,STOREDKEY,SERVERKEY"
                }
                return take(keys)
            }
            switch key {
            case "app":
                guard let app = AppPassword(value), !apps.contains(where: { $0.name == app.name }) else {
                    return "app is not NAME;DIGEST or NAME;DIGEST;NETWORK,..., each name once"
                }
                apps.append(app)
            case "certificate":
                guard let digest = CertificateIdentity.digest(value), !certificates.contains(digest) else {
                    return "certificate is not 64 hexadecimal digits, each digest once"
                }
                certificates.append(digest)
            case "disabled":
                guard value == "yes" else { return "disabled can be nothing but \"yes\"" }
                isDisabled = true
            case "expires":
                guard Self.day(value) != nil else { return "expires is no date such as 2027-01-31" }
                expires = value
            default:
                // It may be a restriction: who does not know it must not let the user in.
                return "\"\(key.visible)\" is not known to this version of slimtad"
            }
            return nil
        }

        private mutating func take(_ found: SCRAMKeys) -> String? {
            keys.updateValue(found, forKey: found.hash) == nil ? nil : "\(found.hash.rawValue) is there twice"
        }
    }

    /// The fields of a line. A colon within brackets, as in an IPv6 address, separates nothing; and RFC 5803's form of SCRAM keys,
    /// which has two, is one field.
    static func fields(of line: ArraySlice<UInt8>) -> [String] {
        var fields: [ArraySlice<UInt8>] = []
        var (start, isBracketed) = (line.startIndex, false)
        for place in line.indices {
            switch line[place] {
            // A name or a hash may have one bracket.
            case UInt8(ascii: "[") where fields.count >= 2: isBracketed = true
            case UInt8(ascii: "]"): isBracketed = false
            case UInt8(ascii: ":") where !isBracketed && !(fields.count > 2 && isWithinKeys(line[start..<place])):
                fields.append(line[start..<place])
                start = line.index(after: place)
            default: break
            }
        }
        return (fields + [line[start...]]).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Whether what begins so is RFC 5803's form, and not at its end: `SCHEME$ITERATIONS` `:SALT$KEY` `:KEY`.
    private static func isWithinKeys(_ octets: ArraySlice<UInt8>) -> Bool {
        octets.starts(with: "SCRAM-".utf8) && octets.contains(UInt8(ascii: "$"))
            && octets.count { $0 == UInt8(ascii: ":") } < 2
    }
}

/// A password of a user that is for one application, made here: a machine types it, so that it need not be a word.
package struct AppPassword: Hashable, Sendable {
    /// Which application it is for: in the log, and to take it away again.
    package let name: String
    /// From where it can be used; empty: from anywhere.
    package let networks: [NetworkRange]
    private let digest: [UInt8]

    /// Characters that are not taken for one another, 32 of them.
    private static let alphabet = Array("abcdefghijkmnpqrstuvwxyz23456789".utf8)

    /// A new password, and what is kept of it.
    ///
    /// - Returns: five groups of four characters, which are 100 random bits.
    package static func make(_ name: String, networks: [NetworkRange]) -> (password: [UInt8], kept: AppPassword) {
        let letters = RandomOctets.secret(20).map { alphabet[Int($0) % alphabet.count] }
        let groups = stride(from: 0, to: 20, by: 4).map { letters[$0..<($0 + 4)] }
        let password = Array(groups.joined(separator: CollectionOfOne(UInt8(ascii: "-"))))
        return (password, AppPassword(name: name, networks: networks, digest: digest(of: password)))
    }

    private init(name: String, networks: [NetworkRange], digest: [UInt8]) {
        (self.name, self.networks, self.digest) = (name, networks, digest)
    }

    /// Of `NAME;DIGEST;NETWORK,...` as the users file has it; nil if it is not that.
    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ";", omittingEmptySubsequences: false)
        guard (2...3).contains(parts.count), Self.isName(String(parts[0])), let digest = Base64.decode(parts[1].utf8),
            digest.count == HashFunction.sha256.size
        else { return nil }
        var networks: [NetworkRange] = []
        // A list without a network would be one that restricts nothing.
        for part in parts.count == 3 ? parts[2].split(separator: ",", omittingEmptySubsequences: false) : [] {
            let isBracketed = part.hasPrefix("[") && part.hasSuffix("]")
            guard let network = NetworkRange(isBracketed ? part.dropFirst().dropLast() : part) else { return nil }
            networks.append(network)
        }
        self.init(name: String(parts[0]), networks: networks, digest: digest)
    }

    /// Whether it can be an application's name: 1 to 64 visible characters, none of which separates anything in the file.
    package static func isName(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text.isVisible && text.utf8.allSatisfy { !" :;,=[]".utf8.contains($0) }
    }

    /// What ``init(_:)`` reads.
    var text: String {
        let places = networks.map { $0.description.contains(":") ? "[\($0)]" : $0.description }
        return "\(name);\(Base64.encode(digest))" + (places.isEmpty ? "" : ";" + places.joined(separator: ","))
    }

    /// Whether it is this password. Fast: what is random need not be hashed slowly.
    func matches(_ password: some Collection<UInt8>) -> Bool {
        ConstantTime.areEqual(Self.digest(of: password), digest)
    }

    /// Whether it can be used from there; nil: over a UNIX socket.
    func allows(_ address: IPAddress?) -> Bool {
        networks.isEmpty || address.map { address in networks.contains { $0.contains(address) } } == true
    }

    private static func digest(of password: some Collection<UInt8>) -> [UInt8] { HashFunction.sha256.digest(password) }
}
