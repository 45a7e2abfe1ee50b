// Digests of what clients show to prove who they are: VerifiedLogins and GuessWatch remember these, and not the secrets.

internal import SlimtaCrypto
internal import SlimtaSASL

extension KeyedDigest {
    /// What stands for a secret together with the texts before it.
    func callAsFunction(_ secret: SecretOctets, behind texts: String...) -> Value {
        // A NUL ends each text: none that counts has one in it.
        var message: [UInt8] = []
        for text in texts { message += Array(text.utf8) + [0] }
        // Growing would leave a copy behind.
        message.reserveCapacity(message.count + secret.count)
        secret.withOctets { message.append(contentsOf: $0) }
        defer { message.wipe() }
        return self(message)
    }
}
