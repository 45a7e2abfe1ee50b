// The keys that [[dkim]] of slimta.conf needs, from wherever they are. Start and reload need all of them; `slimtad check` tells
// of each that is wrong; `slimtad dkim` makes those that are missing.

import SlimtaConfiguration
import SlimtaCrypto
import SlimtaDKIM
import SlimtaMail
import SlimtaSASL
import SlimtaSystem

/// What was found.
struct SigningKeySearch {
    /// What is not there, or cannot be used.
    struct Fault {
        /// Such as "dkim[0].key_file".
        let key: String
        let text: String
        /// Whether all that is missing is that slimtad makes it.
        let isUnmade: Bool
    }

    private(set) var keys: [SigningKey] = []
    private(set) var faults: [Fault] = []

    /// - Parameter read: the content of a file that slimta.conf names; nil: why there is none was told.
    init(_ file: ConfigurationFile, read: (NamedFile) -> Result<[UInt8], SystemError>?) {
        let folder = SigningKeyFolder(in: file.stateDirectory)
        for (index, settings) in file.values.signing.keys.enumerated() {
            switch settings.source {
            case .made:
                for domain in settings.domains {
                    find(settings.algorithm, of: domain, "dkim[\(index)].domains", in: folder, file.serviceUser)
                }
            case .file(let reference, let selector):
                let named = NamedFile(.key, reference, "dkim[\(index)].key_file")
                take(named, read(named), settings, selector)
            }
        }
        refuseTwins()
    }

    private mutating func find(
        _ algorithm: DKIMAlgorithm, of domain: String, _ path: String, in folder: SigningKeyFolder, _ service: UInt32?
    ) {
        do throws(SystemError) {
            let found = try folder.keys(of: domain, service: service).filter { $0.name.algorithm == algorithm }
            keys += found
            guard found.isEmpty else { return }
            let text =
                "there is no key of \(domain) for \(algorithm.rawValue) yet: slimtad dkim generate makes it, and says what DNS "
                + "has to have"
            faults.append(Fault(key: path, text: text, isUnmade: true))
        } catch {
            faults.append(Fault(key: path, text: "\(error)", isUnmade: false))
        }
    }

    private mutating func take(
        _ named: NamedFile, _ content: Result<[UInt8], SystemError>?, _ settings: SigningSettings.Key,
        _ selector: String
    ) {
        guard let content else { return }
        let text: String
        switch content {
        case .failure(let error): text = "\(error)"
        case .success(var octets):
            defer { octets.wipe() }
            do throws(CryptoError) {
                let key = try DKIMSigningKey(pem: octets)
                guard key.algorithm != settings.algorithm else {
                    keys += settings.domains.compactMap { domain in
                        SelectorName(domain: domain, selector: selector, algorithm: key.algorithm).map {
                            SigningKey(name: $0, key: key, made: nil)
                        }
                    }
                    return
                }
                text =
                    "\(named.reference) has a key for \(key.algorithm.rawValue), and algorithm is \"\(settings.algorithm.rawValue)\""
            } catch {
                text = "\(named.reference): \(error)"
            }
        }
        faults.append(Fault(key: named.key, text: text, isUnmade: false))
    }

    /// DNS has one record for a name.
    private mutating func refuseTwins() {
        var seen: Set<String> = []
        for key in keys where !seen.insert(key.name.recordName).inserted {
            let text =
                "\(key.name.recordName) is the name of a key_file and of a key that slimtad has made: give one of them another"
            faults.append(Fault(key: "dkim", text: text, isUnmade: false))
        }
    }
}

extension ConfigurationFile {
    /// All keys that `[[dkim]]` needs; the first that cannot be used is thrown.
    func readSigningKeys() throws(Failure) -> [SigningKey] {
        let search = findSigningKeys()
        if let fault = search.faults.first { throw Failure(.configuration, "\(fault.key): \(fault.text)") }
        return search.keys
    }

    /// The same, with what is wrong.
    func findSigningKeys() -> SigningKeySearch {
        SigningKeySearch(self) { named in
            Result { () throws(SystemError) in try named.read(service: serviceUser) }
        }
    }
}

extension Configuration {
    /// The keys of `[[dkim]]` that are in files of somebody else.
    var signingKeyFiles: [NamedFile] {
        signing.keys.enumerated().compactMap { index, key in
            guard case .file(let reference, _) = key.source else { return nil }
            return NamedFile(.key, reference, "dkim[\(index)].key_file")
        }
    }
}
