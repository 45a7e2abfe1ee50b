// The policies of MTA-STS that are kept of domains, as files in the state directory, and their refresh. The daemon has one, for
// as long as it runs.

import Glibc
import Logging
import NIOPosix
import SlimtaRelay
import SlimtaSystem
import Synchronization

/// Keeps an STSCache.
final class STSKeeper: Sendable {
    /// How often it is looked which policies are due.
    private static let interval = Duration.seconds(900)

    let cache: STSCache
    /// Those of the configuration in use, which fetch.
    private let policies = Mutex<STSPolicies?>(nil)

    /// Looks which files there are; they are read when mail for their domains is.
    init(in directory: String, _ logger: Logger) {
        let files = STSFiles(folder: "\(directory)/sts", logger: logger)
        cache = STSCache(files, paths: files.paths, logger: logger)
    }

    /// From now on these refresh what is kept.
    func use(_ policies: STSPolicies) { self.policies.withLock { $0 = policies } }

    /// Has policies refreshed that are due, again and again until it is cancelled.
    func run() async {
        while (try? await Task.sleep(for: Self.interval)) != nil {
            await policies.withLock { $0 }?.refresh()
        }
    }
}

/// A file for each domain, in one of 256 folders.
private struct STSFiles: STSStore {
    /// A policy and its header: a longer one is none of ours.
    private static let largest = 128 << 10

    let folder: String
    let logger: Logger

    /// Below the folder, of all files.
    var paths: [String] {
        (FolderListing.names(in: folder) ?? []).flatMap { part in
            (FolderListing.names(in: "\(folder)/\(part)") ?? []).map { "\(part)/\($0)" }
        }
    }

    func read(_ path: String) async -> [UInt8]? {
        let octets = try? await NIOThreadPool.singleton.runIfActive {
            try SecureFile.read("\(folder)/\(path)", maximum: Self.largest, mustNotBeReadableByOthers: false)
        }
        return octets
    }

    func write(_ octets: [UInt8], to path: String) async {
        let failure = try? await NIOThreadPool.singleton.runIfActive { () -> SystemError? in
            do throws(SystemError) {
                try makeFolders(of: path)
                try SecureFile.replace("\(folder)/\(path)", with: octets)
                return nil
            } catch { return error }
        }
        guard let error = failure else { return }
        logger.warning(
            "MTA-STS policy cannot be kept", metadata: ["file": "\(folder)/\(path)", "error": "\(error)"])
    }

    func remove(_ path: String) async {
        _ = try? await NIOThreadPool.singleton.runIfActive { unlink("\(folder)/\(path)") }
    }

    private func makeFolders(of path: String) throws(SystemError) {
        for place in [folder, "\(folder)/\(path.prefix { $0 != "/" })"] {
            guard mkdir(place, 0o700) == 0 || errno == EEXIST else {
                throw SystemError("cannot make \(place)", number: errno, code: .cannotCreate)
            }
        }
    }
}
