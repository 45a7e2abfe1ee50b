// Keys of the running daemon: asks DNS for their records, keeps their states in the state directory, tells the operator, and says
// who signs. The daemon has one, for as long as it runs: a reload changes the keys, and not what is known of them.

import Logging
import NIOPosix
import SlimtaConfiguration
import SlimtaControl
import SlimtaDKIM
import SlimtaMail
import SlimtaPolicy
import SlimtaSystem
import Synchronization

/// Keeps a SigningBook.
final class DKIMKeeper: SigningKeys {
    /// A larger file than that is none of ours.
    private static let largestFile = 64 << 20
    /// How often it looks at the clock, which may have been set; and after a suspend.
    private static let interval = Duration.seconds(1)

    private struct State {
        var book = SigningBook()
        var questions: DKIMQuestions?
    }

    let folder: SigningKeyFolder
    private let state = Mutex(State())
    private let file: StateFile
    /// Held while a key is made, deleted, or taken into use: its name must not be given twice, and what a reload has read of the
    /// folder may be older than what is in it.
    private let making = Mutex(())
    private let logger: Logger

    /// Reads what was known before. What cannot be read begins anew: then nothing is signed with until DNS has shown it for an
    /// hour.
    ///
    /// - Parameter lost: of a keeper that never runs, and so never writes: what cannot be read stays where it is, and this is
    ///   told why. nil: it gets another name, and the log is told.
    init(in directory: String, _ logger: Logger, lost: ((_ file: String, _ why: String) -> Void)? = nil) {
        (folder, self.logger) = (SigningKeyFolder(in: directory), logger)
        let file = StateFile("dkim/state", in: directory, maximum: Self.largestFile)
        self.file = file
        var book = SigningBook()
        file.read(isLeft: lost != nil) {
            book.read(String(decoding: $0, as: UTF8.self))
        } lost: { why, kept in
            if let lost { return lost(file.path, why) }
            logger.error(
                "states of DKIM keys begin anew",
                metadata: ["file": "\(file.path)", "error": "\(why)", "kept": "\(kept)"])
        }
        state.withLock { [book] in $0.book = book }
    }

    /// Takes what slimta.conf says, and these keys. DNS is asked for all of them.
    func configure(_ values: Configuration, _ keys: [SigningKey], at now: Timestamp = .now()) {
        making.withLock { _ in
            let keys = upToDate(keys, values.signing)
            tell { state in
                state.questions = DKIMQuestions(values)
                return state.book.configure(values.signing, queued: values.queue.expire, keys, at: now)
            }
        }
    }

    /// With those that were made since their files were read, and without those that were deleted since.
    private func upToDate(_ keys: [SigningKey], _ settings: SigningSettings) -> [SigningKey] {
        let known = Set(keys.map(\.name))
        let made = state.withLock { $0.book.made }.filter { key in
            !known.contains(key.name) && settings.made(for: key.name.domain).contains(key.name.algorithm)
        }
        return (keys + made).filter { $0.made == nil || folder.has($0.name) }
    }

    // MARK: For who signs

    var domains: SigningDomains { state.withLock { $0.book.domains } }

    func signers(for entry: String) -> SigningChoice { state.withLock { $0.book.choice(for: entry) } }

    func stands(_ selector: SelectorName) -> Bool { state.withLock { $0.book.stands(selector) } }

    func signed(_ selectors: [SelectorName], at time: Timestamp, leaving start: Timestamp) {
        state.withLock { $0.book.signed(selectors, at: time, leaving: start) }
    }

    // MARK: Running

    /// Asks and keeps until it is cancelled, then writes what is new.
    func run() async {
        await withTaskGroup(of: Void.self) { tasks in
            // DNS may take its time, states do not.
            tasks.addTask { await self.each { await self.askWhatIsDue() } }
            tasks.addTask {
                await self.each {
                    self.pass(.now())
                    await self.written()
                }
            }
        }
        await written()
    }

    private func each(_ body: () async -> Void) async {
        while !Task.isCancelled {
            await body()
            try? await Task.sleep(for: Self.interval)
        }
    }

    private func askWhatIsDue() async {
        await ask(due(at: .now()))
    }

    /// Whose records DNS is to be asked for.
    func due(at now: Timestamp) -> [SelectorName] { state.withLock { $0.book.due(at: now) } }

    /// Time has passed.
    func pass(_ now: Timestamp) {
        tell { $0.book.pass(now) }
    }

    private func ask(_ names: [SelectorName]) async {
        guard !names.isEmpty, let questions = state.withLock({ $0.questions }) else { return }
        await questions.ask(names) { name in
            self.state.withLock { $0.book.isNew(name) }
        } answered: { answer in
            self.take(answer, at: .now())
        }
    }

    /// DNS has answered.
    func take(_ answer: DKIMQuestions.Answer, at now: Timestamp) {
        tell { $0.book.take(answer, at: now) }
    }

    /// Asks DNS for the keys of a domain, or for all, and reports.
    func check(_ domain: String?) async -> SigningReport {
        await ask(state.withLock { $0.book.names(of: domain) })
        return report()
    }

    /// All keys as they are.
    func report() -> SigningReport { state.withLock { $0.book.report() } }

    // MARK: Making

    /// Makes a key. Slow.
    func make(_ wish: SigningKeyWish, at now: Timestamp = .now()) throws(SigningKeyRefusal) -> SigningReport.Key {
        guard let algorithm = DKIMAlgorithm(rawValue: wish.algorithm) else {
            let known = DKIMAlgorithm.allCases.map(\.rawValue).joined(separator: ", ")
            throw .mistake("\(wish.algorithm) is none of \(known)")
        }
        let made = try making.withLock { _ throws(SigningKeyRefusal) in
            let name = try name(for: wish, algorithm, at: now)
            let made: SigningKey
            do throws(SystemError) { made = try folder.make(name) } catch { throw .failed(error.description) }
            logger.notice("DKIM key is made", metadata: Self.metadata(name))
            if state.withLock({ $0.book.uses(wish.domain, algorithm) }) { tell { $0.book.add(made, at: now) } }
            return made
        }
        return report().keys.first { $0.recordName == made.name.recordName } ?? made.report()
    }

    /// What the key is to be called, if there may be one.
    private func name(
        for wish: SigningKeyWish, _ algorithm: DKIMAlgorithm, at now: Timestamp
    ) throws(SigningKeyRefusal) -> SelectorName {
        // Where DNS cannot have the domain there is no folder of it either.
        guard SelectorName(domain: wish.domain, selector: "s", algorithm: algorithm)?.domain == wish.domain else {
            throw .mistake("\(wish.domain) is no domain")
        }
        let files: [SelectorName]
        do throws(SystemError) {
            files = try folder.keys(of: wish.domain, service: nil).map(\.name)
        } catch {
            throw .failed(error.description)
        }
        let table = state.withLock { $0.book.table }
        let used = table.states.keys.filter { $0.domain == wish.domain }
        let known = Set(files).union(used)
        let rivals = known.filter { $0.algorithm == algorithm }.sorted()
        if let rival = rivals.last, !wish.isNext {
            throw .notNow("\(rival) is there already: slimtad dkim rotate makes the next one")
        }
        if wish.isNext {
            guard !rivals.isEmpty else {
                throw .notNow(
                    "\(wish.domain) has no key for \(algorithm.rawValue) that another could follow: slimtad dkim generate"
                )
            }
            if let unknown = rivals.last(where: { table.states[$0] == nil }) {
                throw .notNow("\(folder.path(unknown)) is not in use yet: slimtad reload, or delete it")
            }
            if let next = table.waiting(among: rivals).last {
                let way = files.contains(next) ? "; to give it up, delete \(folder.path(next)) and reload" : ""
                throw .notNow("\(next) is to sign next, and waits for DNS: see slimtad dkim show\(way)")
            }
        }
        let taken = state.withLock { $0.book.selectors(of: wish.domain) }.union(known.map(\.selector))
        let selector = wish.selector ?? SigningKeyFolder.selector(for: algorithm, after: taken, at: now)
        let name = SelectorName(domain: wish.domain, selector: selector, algorithm: algorithm)
        guard let name, name.selector == selector, selector.utf8.count <= 63, !selector.utf8.contains(UInt8(ascii: "."))
        else {
            throw .mistake("a selector is a name such as r2026a: up to 63 small letters, digits and hyphens")
        }
        guard !taken.contains(selector) else { throw .notNow("\(name.recordName) is the name of another key") }
        return name
    }

    // MARK: Keeping

    /// Writes what is new, in a thread that may wait.
    private func written() async {
        await withCheckedContinuation { continuation in
            NIOThreadPool.singleton.submit { _ in
                self.write()
                continuation.resume()
            }
        }
    }

    /// Slow.
    func write() {
        file.write {
            guard let text = state.withLock({ $0.book.takeChanged() }) else { return nil }
            // What is wrong with it is told of the file.
            try? folder.makeFolders(of: nil)
            return Array(text.utf8)
        } failed: { error, isNews in
            state.withLock { $0.book.setChanged() }
            if isNews {
                logger.error(
                    "states of DKIM keys cannot be written", metadata: ["file": "\(file.path)", "error": "\(error)"])
            }
        }
    }

    // MARK: Telling

    /// Changes what is known, and tells what is new of it.
    private func tell(_ change: (inout State) -> [SigningBook.News]) {
        let (news, held) = state.withLock { state in (change(&state), state.book.held) }
        for one in news {
            switch one {
            case .key(let notice): tell(notice, isOurs: held[notice.name]?.isOurs ?? false)
            case .way(let domain, let way, let isFirst): tell(domain, way, isFirst: isFirst)
            }
        }
    }

    private func tell(_ domain: String, _ way: SigningBook.Way, isFirst: Bool) {
        switch way {
        case .signed:
            if !isFirst { logger.notice("mail of a domain is signed again", metadata: ["domain": "\(domain)"]) }
        case .early:
            logger.warning("mail of a domain is signed before DNS has its key", metadata: ["domain": "\(domain)"])
        case .refused(let name):
            logger.warning(
                "mail of a domain is refused, DNS has no key of it",
                metadata: ["domain": "\(domain)", "selector": "\(name?.recordName ?? "")"])
        }
    }

    private func tell(_ notice: SelectorTable.Notice, isOurs: Bool) {
        let metadata = Self.metadata(notice.name)
        func with(_ key: String, _ value: String) -> Logger.Metadata { metadata.merging([key: "\(value)"]) { $1 } }
        switch notice.notice {
        case .changed(let from, let to, let why):
            logger.log(
                level: to == .failing ? .error : .notice, "DKIM key is in another state",
                metadata: with("reason", why).merging(["from": "\(from.rawValue)", "state": "\(to.rawValue)"]) { $1 })
            if to == .old { logger.notice("DKIM record may be removed", metadata: metadata) }
        case .wrong(let why): logger.warning("DKIM record is wrong", metadata: with("reason", why))
        case .stale(let since, let why):
            logger.warning(
                "DNS says nothing of a DKIM key",
                metadata: with("reason", why).merging(["since": "\(since.isoDate)"]) { $1 })
        case .testing: logger.warning("DKIM record is for tests", metadata: metadata)
        case .done:
            // A file of somebody else is his.
            guard isOurs else { return }
            delete(notice.name)
        }
    }

    private func delete(_ name: SelectorName) {
        do throws(SystemError) {
            try making.withLock { _ throws(SystemError) in
                try folder.delete(name)
                state.withLock { $0.book.remove(name) }
            }
            logger.notice("DKIM key is deleted", metadata: Self.metadata(name))
        } catch {
            logger.error(
                "DKIM key cannot be deleted", metadata: Self.metadata(name).merging(["error": "\(error)"]) { $1 })
        }
    }

    private static func metadata(_ name: SelectorName) -> Logger.Metadata {
        ["domain": "\(name.domain)", "selector": "\(name.selector)", "algorithm": "\(name.algorithm.rawValue)"]
    }
}
