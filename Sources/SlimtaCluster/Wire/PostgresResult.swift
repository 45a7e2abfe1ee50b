// An answer of the server, in libpq's memory until nobody has it any more; and its rows for whoever asked.

import CPostgres
import SlimtaMail

/// A `PGresult`.
final class PostgresResult {
    enum Kind {
        case done, refused, skipped, sync
        /// The connection ends with it, or it is no word of the server.
        case lost
    }

    fileprivate let handle: OpaquePointer

    /// - Parameter handle: is freed with this.
    init(_ handle: OpaquePointer) { self.handle = handle }

    deinit { cpq_clear(handle) }

    var kind: Kind {
        switch Int(cpq_kind(handle)) {
        case CPQ_DONE: .done
        case CPQ_SKIPPED: .skipped
        case CPQ_SYNC: .sync
        case CPQ_ERROR: state == nil || cpq_is_fatal(handle) ? .lost : .refused
        default: .lost
        }
    }

    /// The SQLSTATE of an error; nil: the server did not say it.
    var state: String? { cpq_field(handle, Int32(CPQ_STATE)).map { String(cString: $0) } }

    /// What the server says of an error, without details, which have values in them.
    var text: String { PostgresError.line(cpq_field(handle, Int32(CPQ_MESSAGE))) }
}

/// The rows that a step has given. A column that is read as what it is not, or a null that is read, is a fault of ours.
struct PostgresRows {
    private let result: PostgresResult
    private let name: String
    /// How many there are.
    let count: Int

    init(_ result: PostgresResult, of name: String) {
        (self.result, self.name) = (result, name)
        count = Int(cpq_rows(result.handle))
    }

    // Types of results by their numbers: int2 and varchar come of expressions.
    private static let integers: Set<UInt32> = [20, 21, 23]
    private static let texts: Set<UInt32> = [19, 25, 1043]

    func isNull(_ row: Int, _ column: Int) -> Bool {
        check(row, column)
        return cpq_is_null(result.handle, Int32(row), Int32(column))
    }

    /// Of int2, int4 or int8.
    func int(_ row: Int, _ column: Int) -> Int64 {
        value(row, column, Self.integers.contains) { octets in
            let isNumber = [2, 4, 8].contains(octets.count)
            guard isNumber, let first = octets.first else { wrong(column, "has another length") }
            let sign = Int64(Int8(bitPattern: first))
            return octets.dropFirst().reduce(sign) { $0 << 8 | Int64($1) }
        }
    }

    func bool(_ row: Int, _ column: Int) -> Bool {
        value(row, column, { $0 == PostgresType.bool.rawValue }) { octets in
            guard octets.count == 1 else { wrong(column, "has another length") }
            return octets[0] != 0
        }
    }

    func text(_ row: Int, _ column: Int) -> String {
        value(row, column, Self.texts.contains) { String(decoding: $0, as: UTF8.self) }
    }

    /// Of a uuid.
    func id(_ row: Int, _ column: Int) -> QueueID {
        value(row, column, { $0 == PostgresType.uuid.rawValue }) { octets in
            guard octets.count == 16 else { wrong(column, "has another length") }
            return QueueID(
                high: UInt64(bigEndian: octets.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: octets.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    /// A copy of a bytea.
    func octets(_ row: Int, _ column: Int) -> [UInt8] { withOctets(row, column) { [UInt8]($0) } }

    /// What `body` makes of a bytea, which is there only while it runs.
    func withOctets<Value, Failure: Error>(
        _ row: Int, _ column: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        try value(row, column, { $0 == PostgresType.bytea.rawValue }, body)
    }

    private func value<Value, Failure: Error>(
        _ row: Int, _ column: Int, _ fits: (UInt32) -> Bool,
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        defer { withExtendedLifetime(result) {} }
        check(row, column)
        let (handle, line, place) = (result.handle, Int32(row), Int32(column))
        guard fits(cpq_type(handle, place)) else { wrong(column, "is of another type") }
        guard !cpq_is_null(handle, line, place) else { wrong(column, "is null") }
        let length = Int(cpq_length(handle, line, place))
        return try body(UnsafeRawBufferPointer(start: cpq_value(handle, line, place), count: length))
    }

    private func check(_ row: Int, _ column: Int) {
        guard 0..<count ~= row else { preconditionFailure("\(name): no row \(row)") }
        guard 0..<cpq_columns(result.handle) ~= Int32(column) else { wrong(column, "is not there") }
    }

    private func wrong(_ column: Int, _ what: String) -> Never {
        preconditionFailure("\(name): column \(column) \(what)")
    }
}
