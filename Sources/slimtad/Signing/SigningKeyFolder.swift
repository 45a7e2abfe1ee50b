// The keys that slimtad makes: a file for each in the state directory, 0600. `slimtad dkim` makes them, or has the daemon make
// them; start and reload read them.

import Glibc
import SlimtaCrypto
import SlimtaDKIM
import SlimtaMail
import SlimtaSASL
import SlimtaSystem

/// A key that mail is signed with.
struct SigningKey: Sendable {
    let name: SelectorName
    let key: DKIMSigningKey
    /// When slimtad made it; nil: it is in a file of somebody else.
    let made: Timestamp?
}

/// STATE/dkim/keys/DOMAIN/SELECTOR.pem.
struct SigningKeyFolder: Sendable {
    private static let ending = ".pem"
    /// No sane key is longer.
    static let largestKey = 1 << 20

    /// STATE, and what is in it.
    private let state: String
    private var folder: String { "\(state)/dkim/keys" }

    init(in stateDirectory: String) { state = stateDirectory }

    /// Where a key is.
    func path(_ name: SelectorName) -> String { "\(folder)/\(name.domain)/\(name.selector)\(Self.ending)" }

    /// Whether the file of a key is there, as far as anybody can tell.
    func has(_ name: SelectorName) -> Bool {
        var status = stat()
        return lstat(path(name), &status) == 0 || errno != ENOENT
    }

    /// The keys of a domain, for whatever algorithm, by selector. One that cannot be read is an error: it may be the one that
    /// signs.
    ///
    /// - Parameter service: who may own them besides root and the process.
    func keys(of domain: String, service: UInt32?) throws(SystemError) -> [SigningKey] {
        let path = "\(folder)/\(domain)"
        guard let files = FolderListing.names(in: path) else {
            if errno == ENOENT { return [] }
            throw SystemError("cannot read \(path)", number: errno)
        }
        var keys: [SigningKey] = []
        for file in files.sorted() where file.hasSuffix(Self.ending) {
            keys.append(try read("\(path)/\(file)", domain, String(file.dropLast(Self.ending.count)), service))
        }
        return keys
    }

    private func read(
        _ path: String, _ domain: String, _ selector: String, _ service: UInt32?
    ) throws(SystemError) -> SigningKey {
        var octets = try SecureFile.read(
            path, maximum: Self.largestKey, mustNotBeReadableByOthers: true, service: service)
        defer { octets.wipe() }
        var status = stat()
        guard stat(path, &status) == 0 else { throw SystemError("cannot examine \(path)", number: errno) }
        let key: DKIMSigningKey
        do throws(CryptoError) { key = try DKIMSigningKey(pem: octets) } catch {
            throw SystemError(.invalid, "\(path): \(error)")
        }
        guard let name = SelectorName(domain: domain, selector: selector, algorithm: key.algorithm) else {
            throw SystemError(.invalid, "\(path): DNS can have no such name")
        }
        return SigningKey(
            name: name, key: key, made: Timestamp(milliseconds: Int64(status.st_mtim.tv_sec) * 1000))
    }

    /// Makes a key. RSA takes a tenth of a second and more. One that is there is never replaced: DNS may have it.
    func make(_ name: SelectorName) throws(SystemError) -> SigningKey {
        try makeFolders(of: name.domain)
        let path = path(name)
        // While the file is not there it is the folder that is locked.
        let lock = try FileLock(path)
        defer { withExtendedLifetime(lock) {} }
        var status = stat()
        guard lstat(path, &status) != 0 else { throw SystemError(.invalid, "\(path) is there already") }
        do throws(CryptoError) {
            let key = try DKIMSigningKey.generate(name.algorithm)
            var pem = try key.pem
            defer { pem.wipe() }
            try write(pem, path)
            return SigningKey(name: name, key: key, made: .now())
        } catch {
            throw SystemError(.failed, "\(path): \(error)")
        }
    }

    private func write(_ pem: [UInt8], _ path: String) throws(CryptoError) {
        do throws(SystemError) { try SecureFile.replace(path, with: pem) } catch { throw CryptoError("\(error)") }
    }

    /// Deletes a key for good.
    func delete(_ name: SelectorName) throws(SystemError) {
        let path = path(name)
        guard unlink(path) == 0 || errno == ENOENT else { throw SystemError("cannot delete \(path)", number: errno) }
        // The last key's folder; others stay.
        rmdir("\(folder)/\(name.domain)")
    }

    /// Makes the folder of a domain's keys, or, without a domain, that of states, each for nobody else.
    func makeFolders(of domain: String?) throws(SystemError) {
        var path = state
        for part in ["dkim"] + (domain.map { ["keys", $0] } ?? []) {
            let parent = path
            path += "/\(part)"
            if mkdir(path, 0o700) != 0 {
                if errno == EEXIST { continue }
                throw SystemError("cannot make \(path)", number: errno, code: .cannotCreate)
            }
            let descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard descriptor >= 0 else { throw SystemError("cannot open \(parent)", number: errno) }
            defer { close(descriptor) }
            // A record is published of what is in it: it must not be gone after a power cut.
            guard fsync(descriptor) == 0 else { throw SystemError("cannot write \(parent)", number: errno) }
        }
    }

    /// What the next key is called: "r2026a", then "r2026b", for RSA; "e2026a" for Ed25519.
    ///
    /// - Parameter taken: what keys of the domain are called, and were as long as anybody knows.
    static func selector(for algorithm: DKIMAlgorithm, after taken: some Sequence<String>, at now: Timestamp) -> String
    {
        let kind =
            switch algorithm {
            case .rsaSHA256: "r"
            case .ed25519SHA256: "e"
            }
        let stem = kind + now.isoDate.prefix(4)
        let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
        let last = taken.filter { $0.hasPrefix(stem) }.map { Array($0.utf8.dropFirst(stem.utf8.count)) }
            .filter { !$0.isEmpty && $0.allSatisfy(letters.contains) }
            .max { $0.lexicographicallyPrecedes($1) }
        guard var last else { return stem + "a" }
        if let letter = last.last, letter < letters.upperBound {
            last[last.count - 1] += 1
        } else {
            last.append(letters.lowerBound)
        }
        return stem + String(decoding: last, as: UTF8.self)
    }
}
