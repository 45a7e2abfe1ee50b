// Password hashes of crypt(3): what the users file holds. FileCredentials verifies with it, `slimtad passwd` makes them.

internal import CCrypt
import Glibc
internal import SlimtaCrypto
internal import SlimtaSASL

/// A password hash in the form of crypt(5): yescrypt, bcrypt, sha512crypt and whatever else libxcrypt knows.
package struct PasswordHash: Hashable, Sendable {
    /// As it stands in the users file: `$METHOD$...$DIGEST`, at most 383 octets of printable ASCII.
    package let text: String

    /// A hash as it stands in a file; nil if libxcrypt cannot verify with it.
    package init?(_ text: String) {
        // The methods of before "$" are as good as clear text.
        let usable = [CRYPT_SALT_OK, CRYPT_SALT_METHOD_LEGACY, CRYPT_SALT_TOO_CHEAP]
        guard text.hasPrefix("$"), text.utf8.count <= 383,
            text.utf8.allSatisfy({ (33...126).contains($0) && $0 != UInt8(ascii: ":") }),
            usable.contains(crypt_checksalt(text)), Self.hasDigest(text)
        else { return nil }
        self.text = text
    }

    /// Whether there is a digest behind the parameters and the salt: those alone are a hash that no password has.
    private static func hasDigest(_ text: String) -> Bool {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false).dropFirst()
        let least =
            switch parts.first {
            case "y", "gy", "sha1": 4
            case "5", "6": parts.dropFirst().first?.hasPrefix("rounds=") == true ? 4 : 3
            default: 3
            }
        return parts.count >= least && parts.last?.isEmpty == false
    }

    /// The hash of `password` with a new salt, by yescrypt at libxcrypt's default cost. Takes tens of milliseconds and
    /// megabytes on purpose.
    package init(hashing password: some Collection<UInt8>) {
        var setting = [CChar](repeating: 0, count: Int(CRYPT_GENSALT_OUTPUT_SIZE))
        guard crypt_gensalt_rn("$y$", 0, nil, 0, &setting, CRYPT_GENSALT_OUTPUT_SIZE) != nil,
            let hash = Self.hash(
                password,
                setting: String(decoding: setting.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        else { preconditionFailure("libxcrypt has no yescrypt, or no memory for it") }
        text = hash
    }

    /// A hash that no password has, as costly to verify with as this one: for logins that do not exist.
    package func unmatchable() -> PasswordHash {
        // The last part is the digest; another one has the same cost.
        guard let end = text.lastIndex(of: "$") else { return self }
        let digest = text[text.index(after: end)...]
        let other = String(digest.reversed().map { $0 == "." ? "/" : "." as Character })
        return PasswordHash(String(text[...end]) + other) ?? self
    }

    /// The name of the method as crypt(5) has it between the first two "$": "y", "2b", "6".
    package var method: String { String(text.dropFirst().prefix { $0 != "$" }) }

    /// What verifying costs, in words of the hash itself: the method and its parameters, without salt and digest. Two
    /// hashes of one cost take as long.
    package var cost: String {
        let parts = text.dropFirst().split(separator: "$", omittingEmptySubsequences: false)
        let parameters: Substring =
            switch method {
            // crypt(5): parameters in a part of their own, always there.
            case "y", "gy", "2a", "2b", "2x", "2y", "sha1": parts.dropFirst().first ?? ""
            // A part of their own, if they are not the default.
            case "5", "6": parts.dropFirst().first.flatMap { $0.hasPrefix("rounds=") ? $0 : nil } ?? ""
            // In front of the salt: a digit of N, five of r, five of p.
            case "7": parts.dropFirst().first?.prefix(11) ?? ""
            // None, or in the method's part.
            default: ""
            }
        return "\(method)$\(parameters)"
    }

    /// Whether `password` is the one that was hashed; nil: libxcrypt could not hash it. That is for want of memory, or since
    /// the parameters are beyond it: it says EINVAL for both. As slow as the hash was made; constant time beyond that.
    package func matches(_ password: some Collection<UInt8>) -> Bool? {
        guard Self.canBeHashed(password) else { return false }
        guard let hash = Self.hash(password, setting: text) else { return nil }
        return ConstantTime.areEqual(hash.utf8, text.utf8)
    }

    private static func canBeHashed(_ password: some Collection<UInt8>) -> Bool {
        password.count <= Int(CRYPT_MAX_PASSPHRASE_SIZE) && !password.contains(0)
    }

    private static func hash(_ password: some Collection<UInt8>, setting: String) -> String? {
        guard canBeHashed(password) else { return nil }
        var phrase = [UInt8](repeating: 0, count: password.count + 1)
        for (place, octet) in password.enumerated() { phrase[place] = octet }
        defer { phrase.wipe() }
        return withUnsafeTemporaryAllocation(of: crypt_data.self, capacity: 1) { data in
            // Cleared before, as crypt_r asks; and after, since the password was in it.
            let size = MemoryLayout<crypt_data>.size
            memset(data.baseAddress!, 0, size)
            defer { explicit_bzero(data.baseAddress!, size) }
            return phrase.withUnsafeBytes { phrase in
                guard
                    let hash = crypt_rn(
                        phrase.baseAddress!.assumingMemoryBound(to: CChar.self), setting, data.baseAddress!, CInt(size))
                else { return nil }
                return String(cString: hash)
            }
        }
    }
}
