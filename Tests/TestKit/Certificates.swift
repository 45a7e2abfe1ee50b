// Certificates for tests of TLS, made by the openssl command in a folder of their own.

import Foundation
import Synchronization

/// A folder of certificates and keys; it is deleted with the object, or when the tests end.
package final class Certificates: Sendable {
    package struct Failure: Error {
        package let text: String
    }

    /// A certificate, its issuers behind it if it has any, and its private key, as PEM files.
    package struct Pair: Sendable {
        package let certificateFile: String
        package let keyFile: String

        package var certificatePEM: [UInt8] { Array(FileManager.default.contents(atPath: certificateFile) ?? Data()) }
        package var keyPEM: [UInt8] { Array(FileManager.default.contents(atPath: keyFile) ?? Data()) }
    }

    package enum Key: Sendable {
        case ecdsa
        case ed25519
        case rsa(bits: Int)

        fileprivate var options: [String] {
            switch self {
            case .ecdsa: ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            case .ed25519: ["-newkey", "ed25519"]
            case .rsa(let bits): ["-newkey", "rsa:\(bits)"]
            }
        }
    }

    private let folder: URL
    private static let folders = Mutex<[URL]>([])
    private static let deletion: Void = {
        atexit {
            for folder in Certificates.folders.withLock({ $0 }) { try? FileManager.default.removeItem(at: folder) }
        }
    }()

    package init() throws {
        folder = FileManager.default.temporaryDirectory.appendingPathComponent("certificates-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        Self.folders.withLock { [folder] in $0.append(folder) }
        Self.deletion
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// A certificate that signs itself, for `names` ("mx.example.com", "IP:127.0.0.1").
    package func selfSigned(_ names: String..., key: Key = .ecdsa) throws -> Pair {
        let pair = newPair()
        try run(
            ["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=\(names[0])", "-addext", Self.alternatives(names)]
                + key.options + ["-keyout", pair.keyFile, "-out", pair.certificateFile])
        return pair
    }

    /// The same with a key that was made before.
    package func selfSigned(_ names: String..., keyPEM: String) throws -> Pair {
        let pair = newPair()
        try Data(keyPEM.utf8).write(to: URL(fileURLWithPath: pair.keyFile))
        try run([
            "req", "-x509", "-days", "30", "-subj", "/CN=\(names[0])", "-addext", Self.alternatives(names), "-key",
            pair.keyFile, "-out", pair.certificateFile,
        ])
        return pair
    }

    /// A certificate that issues others; it is not valid for any host.
    package func authority() throws -> Pair {
        let pair = newPair()
        try run(
            [
                "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=Authority \(UUID().uuidString)", "-addext",
                "keyUsage=critical,keyCertSign",
            ] + Key.ecdsa.options + ["-keyout", pair.keyFile, "-out", pair.certificateFile])
        return pair
    }

    /// A certificate for `names`, issued by `issuer`, that ends to be valid in `days` days: in the past if negative.
    package func issued(
        _ names: String..., by issuer: Pair, days: Int = 30, isAuthority: Bool = false, key: Key = .ecdsa
    ) throws -> Pair {
        let pair = newPair()
        let request = newFile("request.pem")
        let extensions = newFile("extensions")
        let lines = [Self.alternatives(names)] + (isAuthority ? ["basicConstraints=critical,CA:TRUE"] : [])
        try Data(lines.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: extensions))
        try run(
            ["req", "-nodes", "-subj", "/CN=\(names[0])"] + key.options + ["-keyout", pair.keyFile, "-out", request])
        try run([
            "x509", "-req", "-in", request, "-CA", issuer.certificateFile, "-CAkey", issuer.keyFile, "-days", "\(days)",
            "-extfile", extensions, "-out", pair.certificateFile,
        ])
        var chain = pair.certificatePEM
        chain += issuer.certificatePEM
        try Data(chain).write(to: URL(fileURLWithPath: pair.certificateFile))
        return pair
    }

    /// A new file of the folder with `contents`.
    package func file(_ contents: String) throws -> String {
        let file = newFile("file")
        try Data(contents.utf8).write(to: URL(fileURLWithPath: file))
        return file
    }

    /// The key of `pair` behind a passphrase.
    package func encryptedKey(of pair: Pair) throws -> String {
        let file = newFile("encrypted.pem")
        try run(["pkey", "-in", pair.keyFile, "-aes256", "-passout", "pass:secret", "-out", file])
        return file
    }

    private static func alternatives(_ names: [String]) -> String {
        "subjectAltName=" + names.map { $0.contains(":") ? $0 : "DNS:\($0)" }.joined(separator: ",")
    }

    private func newPair() -> Pair { Pair(certificateFile: newFile("certificate.pem"), keyFile: newFile("key.pem")) }

    private func run(_ arguments: [String]) throws { try runOpenSSL(arguments, in: folder.path) }

    private func newFile(_ name: String) -> String {
        folder.appendingPathComponent("\(UUID().uuidString)-\(name)").path
    }
}

/// Runs the `openssl` command in `folder`; throws if it says no.
package func runOpenSSL(_ arguments: [String], in folder: String) throws {
    let errors = Pipe()
    let process = try ChildProcess("/usr/bin/openssl", arguments, in: folder, errors: .pipe(errors))
    let text = errors.fileHandleForReading.readDataToEndOfFile()
    guard process.waitUntilExit() == 0 else {
        throw Certificates.Failure(text: String(decoding: text, as: UTF8.self))
    }
}
