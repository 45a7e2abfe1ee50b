// Parameters of statements, in binary form: scalars, and arrays that are written element by element, so that a column of a
// group of commits is written once.

import NIOCore
import SlimtaMail

/// A parameter; nil of an optional is SQL's null.
struct PostgresValue: Sendable {
    let type: PostgresType
    /// As it is sent; nil: null.
    let octets: [UInt8]?

    static func bool(_ value: Bool?) -> PostgresValue { scalar(.bool, value) }
    static func int4(_ value: Int32?) -> PostgresValue { scalar(.int4, value) }
    static func int8(_ value: Int64?) -> PostgresValue { scalar(.int8, value) }
    /// A text must not have NUL in it: PostgreSQL has no such texts, and refuses (22021).
    static func text(_ value: String?) -> PostgresValue { scalar(.text, value) }
    static func uuid(_ value: QueueID?) -> PostgresValue { scalar(.uuid, value) }
    static func bytea(_ value: [UInt8]?) -> PostgresValue { PostgresValue(type: .bytea, octets: value) }
    static func bytea(_ value: ByteBuffer) -> PostgresValue { scalar(.bytea, value) }
    static func bytea(_ value: UnsafeRawBufferPointer) -> PostgresValue { scalar(.bytea, value) }
    /// The null of a type.
    static func null(_ type: PostgresType) -> PostgresValue { PostgresValue(type: type, octets: nil) }

    private static func scalar(_ type: PostgresType, _ value: (some PostgresElement)?) -> PostgresValue {
        guard let value else { return null(type) }
        var octets: [UInt8] = []
        octets.reserveCapacity(value.postgresLength)
        value.write(to: &octets)
        return PostgresValue(type: type, octets: octets)
    }
}

/// A parameter that is an array of one dimension.
struct PostgresColumn: Sendable {
    /// Of each element.
    let element: PostgresType
    /// The type of the whole.
    let type: PostgresType
    /// How many elements it has.
    private(set) var count = 0
    /// The array as it is sent, with its head: dimensions, whether it has nulls, type, length, number of the first.
    private var array: [UInt8]

    private enum Place {
        static let nulls = 4
        static let length = 12
        static let elements = 20
    }

    /// An empty one, of elements of that type.
    init(_ element: PostgresType) {
        guard let type = element.array else { preconditionFailure("no arrays of \(element) here") }
        (self.element, self.type) = (element, type)
        array = Self.head(element)
    }

    private static func head(_ element: PostgresType) -> [UInt8] {
        var head: [UInt8] = []
        for number in [1, 0, Int32(bitPattern: element.rawValue), 0, 1] { number.write(to: &head) }
        return head
    }

    /// How many octets its elements have as they are sent.
    var octets: Int { array.count - Place.elements }

    /// The column as a parameter: shares the octets, which are copied only if something is appended while it lives.
    var value: PostgresValue {
        guard count > 0 else {
            // An array without elements has no dimension.
            return PostgresValue(type: type, octets: [0, 0, 0, 0] + array[Place.nulls..<Place.length])
        }
        return PostgresValue(type: type, octets: array)
    }

    /// Adds an element; nil: a null.
    mutating func append<Element: PostgresElement>(_ value: Element?) {
        precondition(Element.fits(element), "\(Element.self) is no \(element)")
        guard let value else { return append(nil as Never?) }
        Int32(value.postgresLength).write(to: &array)
        value.write(to: &array)
        counted()
    }

    /// Adds a null.
    mutating func append(_ nothing: Never?) {
        Int32(-1).write(to: &array)
        array[Place.nulls + 3] = 1
        counted()
    }

    private mutating func counted() {
        count += 1
        var left = count
        for place in (Place.length..<Place.length + 4).reversed() {
            array[place] = UInt8(truncatingIfNeeded: left)
            left >>= 8
        }
    }

    /// Makes it empty, to be filled again: it keeps its room.
    mutating func removeAll() {
        array.removeAll(keepingCapacity: true)
        array += Self.head(element)
        count = 0
    }
}
