// Numbers and texts as octets, for requests to helpers and their answers. SlimtaPipe and SlimtaPAM write and read by it.

/// Writes texts behind their lengths.
package struct OctetWriter {
    /// What was written so far.
    package var octets: [UInt8] = []

    /// Nothing so far.
    package init() {}

    /// Eight octets, the most significant first.
    package mutating func number(_ number: Int64) {
        withUnsafeBytes(of: number.bigEndian) { octets.append(contentsOf: $0) }
    }

    /// Behind its length, four octets.
    package mutating func text(_ text: String) { field(text.utf8) }

    /// As a text.
    package mutating func field(_ field: some Collection<UInt8>) {
        withUnsafeBytes(of: UInt32(field.count).bigEndian) { octets.append(contentsOf: $0) }
        octets.append(contentsOf: field)
    }

    /// Behind how many there are.
    package mutating func list(_ texts: [String]) {
        withUnsafeBytes(of: UInt32(texts.count).bigEndian) { octets.append(contentsOf: $0) }
        for text in texts { self.text(text) }
    }
}

extension OctetWriter {
    /// What was written, behind its length: four octets, the most significant first.
    package var frame: [UInt8] { withUnsafeBytes(of: UInt32(octets.count).bigEndian) { Array($0) } + octets }
}

/// What has come so far of what ``OctetWriter/frame`` made.
package enum Frame {
    /// Not all of it.
    case more
    /// All of it, and nothing behind it.
    case whole(OctetReader)
    /// What is none, or is longer than `limit`.
    case malformed

    /// Reads what has come.
    package init(_ octets: [UInt8], limit: Int) {
        self = .more
        guard octets.count >= 4 else { return }
        let length = octets[..<4].reduce(0) { $0 << 8 | Int($1) }
        guard length <= limit, octets.count <= 4 + length else {
            self = .malformed
            return
        }
        if octets.count == 4 + length { self = .whole(OctetReader(octets[4...])) }
    }
}

/// Reads what ``OctetWriter`` has written; each reading is nil where there is not enough, or not UTF-8.
package struct OctetReader {
    private var rest: ArraySlice<UInt8>

    /// Reads from the beginning.
    package init(_ octets: ArraySlice<UInt8>) { rest = octets }

    /// Whether all has been read.
    package var isAtEnd: Bool { rest.isEmpty }

    /// One octet.
    package mutating func octet() -> UInt8? { rest.popFirst() }

    /// What ``OctetWriter/number(_:)`` has written.
    package mutating func number() -> Int64? { take(8)?.reduce(0) { $0 << 8 | Int64($1) } }

    /// What ``OctetWriter/text(_:)`` has written.
    package mutating func text() -> String? { field().flatMap { String(validating: $0, as: UTF8.self) } }

    /// What ``OctetWriter/field(_:)`` has written.
    package mutating func field() -> ArraySlice<UInt8>? { length().flatMap { take($0) } }

    /// What ``OctetWriter/list(_:)`` has written.
    package mutating func list() -> [String]? {
        // Each has a length of its own: no more than that many are there, whatever is said.
        guard let count = length(), count <= rest.count / 4 else { return nil }
        var texts: [String] = []
        for _ in 0..<count {
            guard let text = text() else { return nil }
            texts.append(text)
        }
        return texts
    }

    private mutating func length() -> Int? { take(4)?.reduce(0) { $0 << 8 | Int($1) } }

    private mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
        guard count <= rest.count else { return nil }
        defer { rest = rest.dropFirst(count) }
        return rest.prefix(count)
    }
}
