// An answer of HTTP as a receipt keeps it: what was said to a submission is said again, word for word.

/// An answer with a status of 2xx. Others are never kept: who is told to come again is to be heard anew.
package struct KeptAnswer: Hashable, Sendable {
    /// 200 to 299.
    package var status: UInt16
    /// Fields that are part of what was said, in order; without those that the server sets itself.
    package var fields: [(name: String, value: String)]
    /// The content.
    package var body: [UInt8]

    /// What was said to a submission.
    package init(status: UInt16, fields: [(name: String, value: String)], body: [UInt8] = []) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    /// status (2), fields (2), for each the length of its name (2) and of its value (4), both; then the body.
    package var octets: [UInt8] {
        var octets = Self.number(status)
        octets += Self.number(UInt16(fields.count))
        for (name, value) in fields {
            octets += Self.number(UInt16(name.utf8.count)) + Self.number(UInt32(value.utf8.count))
            octets += Array(name.utf8) + Array(value.utf8)
        }
        return octets + body
    }

    /// Reads ``octets``; nil if they are none.
    package init?(_ octets: [UInt8]) {
        var rest = octets[...]
        guard let status: UInt16 = Self.take(&rest), (200...299).contains(status), let count: UInt16 = Self.take(&rest)
        else { return nil }
        self.status = status
        fields = []
        for _ in 0..<count {
            guard let name: UInt16 = Self.take(&rest), let value: UInt32 = Self.take(&rest),
                rest.count >= Int(name) + Int(value)
            else { return nil }
            let text = rest.prefix(Int(name))
            rest = rest.dropFirst(Int(name))
            fields.append(
                (String(decoding: text, as: UTF8.self), String(decoding: rest.prefix(Int(value)), as: UTF8.self)))
            rest = rest.dropFirst(Int(value))
        }
        body = Array(rest)
    }

    private static func number<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
        withUnsafeBytes(of: number.littleEndian) { Array($0) }
    }

    private static func take<Number: FixedWidthInteger>(_ rest: inout ArraySlice<UInt8>) -> Number? {
        guard rest.count >= MemoryLayout<Number>.size else { return nil }
        let octets = rest.prefix(MemoryLayout<Number>.size)
        rest = rest.dropFirst(MemoryLayout<Number>.size)
        return octets.reversed().reduce(0) { $0 << 8 | Number($1) }
    }

    /// Whether they are the same, field for field.
    package static func == (a: KeptAnswer, b: KeptAnswer) -> Bool { a.octets == b.octets }
    /// As `==`.
    package func hash(into hasher: inout Hasher) { hasher.combine(octets) }
}
