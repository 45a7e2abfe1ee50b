// A root zone of our own, signed with ldns-signzone (ECDSA P-256, valid until 2084), and the key that it is signed with.
// In the zone: secure.example (MX), alias.example (CNAME to that), forged.example (MX, changed after signing),
// unsigned. (delegated without DS).

import Foundation

private enum SignedRoot {
    /// A file of trust anchors.
    static let key = """
        . IN DNSKEY 257 3 13 kqufCm9CYudCz3GaNNbeFCrVwxzQQH9UBHs876CsXm9bfSMORUyf993otuVBStrTQnmuIcYw4qkpDv97R2ng9g==

        """

    /// The zone, with a change that its signature does not cover.
    static let zone = signedZone.replacing("10 mx.forged.example.", with: "10 mx.evil.example.")

    private static let signedZone = """
        . 3600 IN SOA ns. hostmaster. 1 3600 900 86400 3600
        . 3600 IN RRSIG SOA 13 0 3600 20840101000000 20200101000000 19564 . QoNq6buKkjQmVyQOa4TGSH4bzNA1smSDCf9wnpblNwQoNvUa3TTwVZX8P4fVXUJn1fUW/iKeL74LVC1OzheX5g==
        . 3600 IN NS ns.
        . 3600 IN RRSIG NS 13 0 3600 20840101000000 20200101000000 19564 . jYWby4DbfTY+/wNUHBE7U+5e2QY31FpMJa2QsoN+BMNSHDr5GLwXZk4Ww0Ulxmsw50cbaKhw6MxCeEFUUfp0Vw==
        . 3600 IN DNSKEY 257 3 13 kqufCm9CYudCz3GaNNbeFCrVwxzQQH9UBHs876CsXm9bfSMORUyf993otuVBStrTQnmuIcYw4qkpDv97R2ng9g==
        . 3600 IN RRSIG DNSKEY 13 0 3600 20840101000000 20200101000000 19564 . 440AvSUAIXWWLAFIBPW+ax48LB1yTtNh/sfJ+ZVp0raW50V5uKcA3ZxJgkdGxrbmbOnFm/FQm8mgFlTBiM2PZQ==
        . 3600 IN NSEC alias.example. NS SOA RRSIG NSEC DNSKEY
        . 3600 IN RRSIG NSEC 13 0 3600 20840101000000 20200101000000 19564 . 2ltDjZgRJRgFuDRolJZqrnRvlWmk+ITRQzSXX0JFzVe20jGIUls1v3NMaDzJPOP7Qg5N+7l3HNwtK+srfDjPcA==
        alias.example. 3600 IN CNAME secure.example.
        alias.example. 3600 IN RRSIG CNAME 13 2 3600 20840101000000 20200101000000 19564 . y+nlJC04q+7vCY5gicKfmvZGU2doBtljf/ZWSgboCeNvj+bncemYxkJlb4Bkp9YtzRJzdq++I1ohY9uBn+KENw==
        alias.example. 3600 IN NSEC forged.example. CNAME RRSIG NSEC
        alias.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 19564 . Z7CAtMiHkyjFhN/oZHHVq41Dzl4Y8CNZA1jK78d0rkOGNzW+mL3NqUSc6e0MZwccTZbny09AKNv3vvFqSY4coA==
        forged.example. 3600 IN MX 10 mx.forged.example.
        forged.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 19564 . WzK08rescdimCa419PwgTovzagZOnYOHjuzaDomSBE9rRPAjUmwi3JfHh88Ad+P0ByoQRnfH006ygIegTa9dGA==
        forged.example. 3600 IN NSEC secure.example. MX RRSIG NSEC
        forged.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 19564 . 6lYOISN4JoVGGhwSKu2zQAWKzuNV+luLfcJOiJvEBCMrd/OjkJqgZwqjfX4Kkx66xS0G0aLv5qGouPWvhytWCA==
        secure.example. 3600 IN MX 10 mx.secure.example.
        secure.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 19564 . 3ctc6s1jfpwqBYUSj/wUKJiGt6wqkOTHTcdjsfVkv91WrsSExtsm9JrNHHOh2AcKwv7A0z+Fn1vmaJMrNuSQCA==
        secure.example. 3600 IN NSEC mx.secure.example. MX RRSIG NSEC
        secure.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 19564 . Qrhw+7XlqNxFSQUK8M5miNBO6rs/EKwZo7XtrCFMEMXbj69zFgU6HrtlmbsL8vjX3YuRUxELCjh444BR/Zh8wA==
        mx.secure.example. 3600 IN A 192.0.2.1
        mx.secure.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 19564 . R9jrHg6KNhc5ZSmTGq152m+1LxBhd4iQdOpRz4WuqJNP9PFZLgGWqeW6fJkmZI+VVOqQr9JfJBdDX7NyrYaQRw==
        mx.secure.example. 3600 IN NSEC ns. A RRSIG NSEC
        mx.secure.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 19564 . b9y0WmH/SFvU/upZuZJbFSY+VV4dn3NXUBvErcJlZa4qCJ089K55fk7DxE7G9vCeNlCFezbfnfUJuM8aEBBY+g==
        ns. 3600 IN A 127.0.0.1
        ns. 3600 IN RRSIG A 13 1 3600 20840101000000 20200101000000 19564 . aewehT9NT2uTxXAgV7aJW3mxjPbmzgHHvKefQtpSQpHXpDP7k1LjvuPcGSSwaocG7OgjB3NoH4mb/lErkLEGMQ==
        ns. 3600 IN NSEC unsigned. A RRSIG NSEC
        ns. 3600 IN RRSIG NSEC 13 1 3600 20840101000000 20200101000000 19564 . 5LVwNG4ntnJqqdr+brJTZZ/1GlSXW4d2ErCn6793bGXsR36CYRfANT1kxLmQLBr5mg3FxP8e4ynNC1HtVeUWTQ==
        unsigned. 3600 IN NS ns.
        unsigned. 3600 IN NSEC . NS RRSIG NSEC
        unsigned. 3600 IN RRSIG NSEC 13 1 3600 20840101000000 20200101000000 19564 . Jcci1o2b15x9c9+TV4AJZo7MxP+mb4kcrOqbgpb1TXmXj8Oasjn3n0zI3BqhzGy5Ldcton6WEtQo6HVDbqEqlw==

        """
}

/// The files of a name server that has the signed root, and of a resolver that trusts it; they are deleted with the object.
package final class SignedZones {
    private let folder: URL
    /// The file of trust anchors.
    package let key: String

    private let root: String
    private let unsigned: String

    /// The root with secure.example and its like.
    package convenience init() throws {
        try self.init(
            key: SignedRoot.key, root: SignedRoot.zone,
            unsigned: """
                unsigned. 3600 IN SOA ns. hostmaster. 1 3600 900 86400 3600
                unsigned. 3600 IN NS ns.
                unsigned. 3600 IN MX 5 mx.unsigned.

                """)
    }

    /// Writes the key. `root` and `unsigned` are zones in the form of their files.
    init(key: String, root: String, unsigned: String) throws {
        (self.root, self.unsigned) = (root, unsigned)
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("signed-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        self.key = folder.appendingPathComponent("root.key").path
        try Data(key.utf8).write(to: URL(fileURLWithPath: self.key))
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    private func zone(_ name: String, _ lines: String) throws -> [String] {
        let file = folder.appendingPathComponent("\(name)zone").path
        try Data(lines.utf8).write(to: URL(fileURLWithPath: file))
        return [
            "auth-zone:", "  name: \"\(name)\"", "  zonefile: \"\(file)\"", "  for-downstream: yes",
            "  for-upstream: no", "  fallback-enabled: no",
        ]
    }

    /// A server for the signed root and, unsigned below it, unsigned. (delegated without DS) and corp., which the root
    /// denies.
    package func server(port: Int? = nil) throws -> NameServer {
        let soa = "IN SOA ns. hostmaster. 1 3600 900 86400 3600\n"
        return try NameServer(
            records: [], serverOptions: ["local-zone: \"corp.\" nodefault"],
            clauses: zone(".", root) + zone("unsigned.", unsigned)
                + zone("corp.", "corp. 3600 \(soa)corp. 3600 IN NS ns.\ncorp. 3600 IN MX 5 mx.corp.\n"),
            port: port)
    }
}
