// Reads JSON (RFC 8259 section 2): the command line uses it for what the daemon answers, the HTTP edge for messages. Strict, and
// bounded in size and depth.

extension JSON {
    /// Reads one value and nothing behind it but white space. Strict: no name twice in an object (RFC 8259 section 4), no
    /// half characters, no byte order mark.
    ///
    /// - Parameters:
    ///   - limit: how many octets there may be, white space counted.
    ///   - depth: how many arrays and objects may be within each other; more than 64 are never read.
    ///   - values: how many values there may be, those within others counted: each costs far more than its octets.
    package init(
        parsing octets: some Collection<UInt8>, upTo limit: Int = .max, depth: Int = 64, values: Int = .max
    ) throws(JSONError) {
        guard octets.count <= limit else { throw JSONError(offset: limit, what: "longer than \(limit) octets") }
        // What is in one place is read there: a message may have many megabytes.
        let read = { (octets: UnsafeBufferPointer<UInt8>) -> Result<JSON, JSONError> in
            var parser = JSONParser(octets: octets, deepest: min(depth, 64), values: values)
            return Result { () throws(JSONError) in try parser.document() }
        }
        let result = octets.withContiguousStorageIfAvailable(read) ?? Array(octets).withUnsafeBufferPointer(read)
        self = try result.get()
    }
}

private struct JSONParser {
    let octets: UnsafeBufferPointer<UInt8>
    let deepest: Int
    /// How many values may still come.
    var values: Int
    var place = 0

    init(octets: UnsafeBufferPointer<UInt8>, deepest: Int, values: Int) {
        self.octets = octets
        self.deepest = deepest
        self.values = values
    }

    mutating func document() throws(JSONError) -> JSON {
        let value = try self.value(0)
        skipSpace()
        guard place == octets.count else { throw error("more than one value") }
        return value
    }

    private func error(_ what: String) -> JSONError { JSONError(offset: place, what: what) }

    private mutating func skipSpace() {
        while place < octets.count, [0x20, 0x09, 0x0A, 0x0D].contains(octets[place]) { place += 1 }
    }

    /// The next octet that is no white space; nil at the end.
    private mutating func peek() -> UInt8? {
        skipSpace()
        return place < octets.count ? octets[place] : nil
    }

    private mutating func take(_ octet: UInt8) -> Bool {
        guard peek() == octet else { return false }
        place += 1
        return true
    }

    private mutating func value(_ depth: Int) throws(JSONError) -> JSON {
        guard let octet = peek() else { throw error("no value") }
        guard values > 0 else { throw error("too many values") }
        values -= 1
        switch octet {
        case UInt8(ascii: "{"): return try object(depth)
        case UInt8(ascii: "["): return try array(depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw error("no value")
        }
    }

    private mutating func word(_ text: String, _ value: JSON) throws(JSONError) -> JSON {
        guard octets[place...].starts(with: text.utf8) else { throw error("no value") }
        place += text.utf8.count
        return value
    }

    /// RFC 8259 section 6: no plus, no zero in front, digits on both sides of a point.
    private mutating func number() throws(JSONError) -> JSON {
        let start = place
        skip("-")
        let first = place
        guard digits() > 0, octets[first] != UInt8(ascii: "0") || place == first + 1 else { throw error("no number") }
        let isWhole = place
        if skip(".") { guard digits() > 0 else { throw error("no digit behind the point") } }
        if skip("eE") {
            skip("+-")
            guard digits() > 0 else { throw error("no exponent") }
        }
        let text = String(decoding: octets[start..<place], as: UTF8.self)
        if place == isWhole, let number = Int64(text) { return .number(number) }
        return .decimal(JSON.Decimal(written: text))
    }

    /// Skips one octet, if it is one of these.
    @discardableResult
    private mutating func skip(_ these: String) -> Bool {
        guard place < octets.count, these.utf8.contains(octets[place]) else { return false }
        place += 1
        return true
    }

    /// Skips digits; returns how many there were.
    private mutating func digits() -> Int {
        let start = place
        while place < octets.count, UInt8(ascii: "0")...UInt8(ascii: "9") ~= octets[place] { place += 1 }
        return place - start
    }

    private mutating func object(_ depth: Int) throws(JSONError) -> JSON {
        guard depth < deepest else { throw error("too deep") }
        place += 1
        var members: [JSON.Member] = []
        if take(UInt8(ascii: "}")) { return .object(members) }
        var names: Set<String> = []
        repeat {
            guard peek() == UInt8(ascii: "\"") else { throw error("no name of a member") }
            let name = try string()
            guard names.insert(name).inserted else { throw error("a name twice") }
            guard take(UInt8(ascii: ":")) else { throw error("no colon") }
            members.append(.init(name, try value(depth + 1)))
        } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "}")) else { throw error("no end of an object") }
        return .object(members)
    }

    private mutating func array(_ depth: Int) throws(JSONError) -> JSON {
        guard depth < deepest else { throw error("too deep") }
        place += 1
        var elements: [JSON] = []
        if take(UInt8(ascii: "]")) { return .array(elements) }
        repeat { elements.append(try value(depth + 1)) } while take(UInt8(ascii: ","))
        guard take(UInt8(ascii: "]")) else { throw error("no end of an array") }
        return .array(elements)
    }

    private mutating func string() throws(JSONError) -> String {
        place += 1
        var text: [UInt8] = []
        while true {
            let start = place
            while place < octets.count, octets[place] >= 0x20, octets[place] != UInt8(ascii: "\""),
                octets[place] != UInt8(ascii: "\\")
            { place += 1 }
            guard place < octets.count else { throw error("no end of a string") }
            let (run, end) = (octets[start..<place], octets[place])
            place += 1
            switch end {
            case UInt8(ascii: "\""):
                // Most have no escapes, and are taken as they are.
                let valid =
                    text.isEmpty
                    ? String(validating: run, as: UTF8.self) : String(validating: text + run, as: UTF8.self)
                guard let valid else { throw error("not UTF-8") }
                return valid
            case UInt8(ascii: "\\"):
                text += run
                try escape(into: &text)
            default: throw error("a control character in a string")
            }
        }
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
        guard place < octets.count else { throw error("no end of a string") }
        let octet = octets[place]
        place += 1
        switch octet {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(octet)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = UInt32(try codeUnit())
            if 0xD800..<0xDC00 ~= code, octets[place...].starts(with: "\\u".utf8) {
                place += 2
                let low = UInt32(try codeUnit())
                guard 0xDC00..<0xE000 ~= low else { throw error("half a character") }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw error("half a character") }
            text += String(Character(scalar)).utf8
        default: throw error("an unknown escape")
        }
    }

    private mutating func codeUnit() throws(JSONError) -> UInt16 {
        guard place + 4 <= octets.count,
            let unit = UInt16(String(decoding: octets[place..<(place + 4)], as: UTF8.self), radix: 16),
            octets[place] != UInt8(ascii: "+"), octets[place] != UInt8(ascii: "-")
        else { throw error("not four hexadecimal digits") }
        place += 4
        return unit
    }
}
