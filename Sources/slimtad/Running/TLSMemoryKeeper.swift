// What relays remember of hosts' TLS, as a file in the state directory. The daemon has one, for as long as it runs.

import Logging
import NIOPosix
import SlimtaMail
import SlimtaRelay
import SlimtaSystem

/// Keeps a TLSMemoryBook.
final class TLSMemoryKeeper: Sendable {
    /// A larger file is none of ours: as many hosts as are remembered, with the longest names.
    private static let largestFile = 64 << 20
    private static let interval = Duration.seconds(60)

    let book = TLSMemoryBook()
    private let file: StateFile
    private let logger: Logger

    /// Reads what was remembered before. It is a hint: what cannot be read is forgotten, and mail goes on.
    init(in directory: String, _ logger: Logger) {
        file = StateFile("tls-memory", in: directory, maximum: Self.largestFile)
        self.logger = logger
        file.read {
            book.read($0)
        } lost: { why, kept in
            logger.warning(
                "TLS memory begins anew",
                metadata: ["file": "\(file.path)", "error": "\(why)", "kept": "\(kept)"])
        }
    }

    /// Writes what has changed, every minute until it is cancelled, and then once more.
    func run() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.interval)
            await write()
        }
    }

    /// What was known when it is called is in the file when it returns, if the disk works.
    func write() async {
        await withCheckedContinuation { continuation in
            NIOThreadPool.singleton.submit { _ in
                self.writeNow()
                continuation.resume()
            }
        }
    }

    private func writeNow() {
        file.write {
            book.takeChanged(at: .now())
        } failed: { error, isNews in
            book.setChanged()
            if isNews {
                logger.error(
                    "TLS memory cannot be written", metadata: ["file": "\(file.path)", "error": "\(error)"])
            }
        }
    }
}
