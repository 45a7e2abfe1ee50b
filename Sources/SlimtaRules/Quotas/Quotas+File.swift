// What is remembered of senders as the octets of a file: written every few seconds, read at the start.

internal import SlimtaMail

extension Quotas {
    /// The first octets of a file, the format's number last.
    private static let magic = Array("slimtad quotas 2".utf8)
    /// The format before: one octet of soft limits, and no networks.
    private static let firstMagic = Array("slimtad quotas 1".utf8)

    /// All of it. Numbers have the low octet first:
    ///
    ///     file     magic (16), key (8, 8), number of senders (4), senders, digest of all before under an empty key (8)
    ///     sender   kind (1), name, since, last, recipients ever, forgiven until (4 each), soft limits told of (2),
    ///              last outcomes (8, 8, 1), words of the hour, of the day (each: number (4), words (4 each)),
    ///              recipients, networks (each: number (4), entries (8 each)), held (1): 0 no, else 1 + 2 * duties;
    ///              if so: since in ms (8), messages (4), octets (8), reason
    ///     text     number of octets (2), octets
    package var octets: [UInt8] {
        var output = QuotaWriter()
        output.octets.reserveCapacity(size)
        output.octets += Self.magic
        output.put(digest.key.x)
        output.put(digest.key.y)
        output.put(UInt32(accounts.count))
        for (subject, account) in accounts { output.put(subject, account) }
        output.put(Self.digest(of: output.octets[...]))
        return output.octets
    }

    /// What ``octets`` says; nil: these are not such octets, or not all of them.
    package init?(octets: [UInt8]) {
        let isFirst = octets.starts(with: Self.firstMagic)
        guard isFirst || octets.starts(with: Self.magic), octets.count >= Self.magic.count + 28 else { return nil }
        let end = octets.count - 8
        var check = QuotaReader(octets[end...])
        guard check.number(UInt64.self) == Self.digest(of: octets[..<end]) else { return nil }
        var input = QuotaReader(octets[Self.magic.count..<end])
        guard let x = input.number(UInt64.self), let y = input.number(UInt64.self),
            let count = input.number(UInt32.self)
        else { return nil }
        var accounts: [QuotaSubject: QuotaAccount] = [:]
        for _ in 0..<count {
            guard let (subject, account) = input.account(isFirst: isFirst) else { return nil }
            accounts[subject] = account
        }
        guard input.isAtEnd, accounts.count == Int(count) else { return nil }
        self.init(key: SIMD2(x, y), accounts)
    }

    private static func digest(of octets: ArraySlice<UInt8>) -> UInt64 {
        octets.withUnsafeBytes { SipHash(key: SIMD2(0, 0))($0) }
    }
}

/// Appends to a file's octets.
private struct QuotaWriter {
    var octets: [UInt8] = []

    mutating func put(_ number: some FixedWidthInteger) {
        withUnsafeBytes(of: number.littleEndian) { octets += $0 }
    }

    mutating func put(_ text: String) {
        let octets = Array(text.utf8.prefix(Int(UInt16.max)))
        put(UInt16(octets.count))
        self.octets += octets
    }

    mutating func put(_ numbers: [some FixedWidthInteger]) {
        put(UInt32(numbers.count))
        for number in numbers { put(number) }
    }

    mutating func put(_ subject: QuotaSubject, _ account: QuotaAccount) {
        switch subject {
        case .login: put(UInt8(0))
        case .address: put(UInt8(1))
        case .local: put(UInt8(2))
        }
        put(subject.description)
        for time in [account.since, account.last, account.recipients, account.forgivenUntil] { put(time) }
        put(account.told)
        put(UInt64(truncatingIfNeeded: account.outcomes.bits))
        put(UInt64(truncatingIfNeeded: account.outcomes.bits >> 64))
        put(UInt8(account.outcomes.count))
        put(account.hour.words)
        put(account.day.words)
        put(account.known.entries)
        put(account.networks.entries)
        put(account.hold.map { 1 | $0.duties.rawValue << 1 } ?? 0)
        if let hold = account.hold {
            put(hold.since.milliseconds)
            put(UInt32(clamping: hold.messages))
            put(UInt64(hold.octets))
            put(hold.reason)
        }
    }
}

/// Reads a file's octets; nil where they are not what is expected.
private struct QuotaReader {
    private let octets: ArraySlice<UInt8>
    private var place: Int

    init(_ octets: ArraySlice<UInt8>) {
        self.octets = octets
        place = octets.startIndex
    }

    var isAtEnd: Bool { place == octets.endIndex }

    mutating func number<Number: FixedWidthInteger>(_: Number.Type) -> Number? {
        let size = Number.bitWidth / 8
        guard octets.endIndex - place >= size else { return nil }
        defer { place += size }
        return octets.withUnsafeBytes {
            Number(littleEndian: $0.loadUnaligned(fromByteOffset: place - octets.startIndex, as: Number.self))
        }
    }

    private mutating func text() -> String? {
        guard let count = number(UInt16.self), octets.endIndex - place >= Int(count) else { return nil }
        defer { place += Int(count) }
        return String(validating: octets[place..<place + Int(count)], as: UTF8.self)
    }

    private mutating func numbers<Number: FixedWidthInteger>(_: Number.Type, most: Int) -> [Number]? {
        guard let count = number(UInt32.self), Int(count) <= most,
            octets.endIndex - place >= Int(count) * Number.bitWidth / 8
        else { return nil }
        var numbers: [Number] = []
        numbers.reserveCapacity(Int(count))
        for _ in 0..<count { if let one = number(Number.self) { numbers.append(one) } }
        return numbers
    }

    private mutating func history() -> QuotaHistory? {
        // A clock that is put back can leave as much before the window as is in it.
        let most = QuotaHistory.stride * Int(2 * QuotaHistory.parts + 1)
        guard let words = numbers(UInt32.self, most: most), words.count % QuotaHistory.stride == 0 else { return nil }
        return QuotaHistory(words: words)
    }

    private mutating func subject() -> QuotaSubject? {
        guard let kind = number(UInt8.self), let name = text() else { return nil }
        switch kind {
        case 0: return .login(name)
        case 1: return IPAddress(name).map { .address($0) }
        case 2: return .local
        default: return nil
        }
    }

    private mutating func outcomes() -> LastOutcomes? {
        guard let low = number(UInt64.self), let high = number(UInt64.self), let count = number(UInt8.self),
            count <= LastOutcomes.most
        else { return nil }
        return LastOutcomes(bits: UInt128(high) << 64 | UInt128(low), count: Int(count))
    }

    private mutating func hold(_ duties: HoldDuties) -> QuotaHold? {
        guard let since = number(Int64.self), let messages = number(UInt32.self), let size = number(UInt64.self),
            size < 1 << 50, let reason = text()
        else { return nil }
        return QuotaHold(
            since: Timestamp(milliseconds: since), reason: reason, messages: Int(messages), octets: Int(size),
            duties: duties)
    }

    mutating func account(isFirst: Bool) -> (QuotaSubject, QuotaAccount)? {
        guard let subject = subject(), let since = number(UInt32.self), let last = number(UInt32.self),
            let recipients = number(UInt32.self), let forgiven = number(UInt32.self),
            let told = isFirst ? number(UInt8.self).map(UInt16.init) : number(UInt16.self),
            let outcomes = outcomes(), let hour = history(), let day = history(),
            let known = numbers(UInt64.self, most: 1 << 24),
            let networks = isFirst ? [] : numbers(UInt64.self, most: KnownNetworks.most),
            let isHeld = number(UInt8.self)
        else { return nil }
        var account = QuotaAccount(at: since)
        (account.last, account.recipients, account.forgivenUntil, account.told) = (last, recipients, forgiven, told)
        (account.outcomes, account.hour, account.day) = (outcomes, hour, day)
        // Searched by halves.
        guard zip(known, known.dropFirst()).allSatisfy({ $0 >> 16 < $1 >> 16 }) else { return nil }
        account.known.entries = known
        account.networks.entries = networks
        if isHeld != 0 {
            let duties = HoldDuties(rawValue: isHeld >> 1)
            guard isHeld & 1 == 1, duties.isSubset(of: .all), let hold = hold(duties) else { return nil }
            account.hold = hold
        }
        return (subject, account)
    }
}
