// How single values are written, in PostgreSQL's binary form: big-endian numbers, octets as they are.

import NIOCore
import SlimtaMail

/// What a column may be made of, or a parameter.
protocol PostgresElement {
    /// Whether it is one of that type.
    static func fits(_ type: PostgresType) -> Bool
    /// How many octets `write` adds.
    var postgresLength: Int { get }
    /// Adds it to `octets`.
    func write(to octets: inout [UInt8])
}

extension PostgresElement where Self: FixedWidthInteger {
    var postgresLength: Int { MemoryLayout<Self>.size }
    func write(to octets: inout [UInt8]) { withUnsafeBytes(of: bigEndian) { octets.append(contentsOf: $0) } }
}

extension Int32: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .int4 }
}

extension Int64: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .int8 }
}

extension Bool: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .bool }
    var postgresLength: Int { 1 }
    func write(to octets: inout [UInt8]) { octets.append(self ? 1 : 0) }
}

extension String: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .text }
    var postgresLength: Int { utf8.count }
    func write(to octets: inout [UInt8]) { octets.append(contentsOf: utf8) }
}

extension QueueID: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .uuid }
    var postgresLength: Int { 16 }
    func write(to octets: inout [UInt8]) {
        withUnsafeBytes(of: high.bigEndian) { octets.append(contentsOf: $0) }
        withUnsafeBytes(of: low.bigEndian) { octets.append(contentsOf: $0) }
    }
}

extension [UInt8]: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .bytea }
    var postgresLength: Int { count }
    func write(to octets: inout [UInt8]) { octets.append(contentsOf: self) }
}

extension UnsafeRawBufferPointer: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .bytea }
    var postgresLength: Int { count }
    func write(to octets: inout [UInt8]) { octets.append(contentsOf: self) }
}

extension ByteBuffer: PostgresElement {
    static func fits(_ type: PostgresType) -> Bool { type == .bytea }
    var postgresLength: Int { readableBytes }
    func write(to octets: inout [UInt8]) { withUnsafeReadableBytes { octets.append(contentsOf: $0) } }
}
