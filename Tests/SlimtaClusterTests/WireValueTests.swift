// Values on their way to the server and back: every type, its ends, nulls, arrays.

import NIOCore
import SlimtaMail
import TestKit
import Testing

@testable import SlimtaCluster

@Suite(.needsPostgres) struct WireValueTests {
    private static let everyType: [PostgresType] = [.bool, .int4, .int8, .text, .bytea, .uuid]
    private static let echo = statement(
        "echo", everyType, "select $1::bool, $2::int4, $3::int8, $4::text, $5::bytea, $6::uuid")

    @Test func scalars() throws {
        let connection = try WireDatabase().connect()
        let texts = ["", "plain", "Grüße, 世界 🎈", "a\nb\t'\"\\$1"]
        let octets: [[UInt8]] = [[], [0], Array(0...255), [UInt8](repeating: 0xFF, count: 70_000)]
        let ids = [QueueID(high: 0, low: 0), QueueID(high: .max, low: .max), QueueID(high: 0x0102_0304, low: 1 << 63)]
        let fours: [Int32] = [0, 1, -1, .min, .max]
        let eights: [Int64] = [0, 1, -1, .min, .max, 1 << 40]
        for number in 0..<6 {
            let (text, blob) = (texts[number % 4], octets[number % 4])
            let (id, four, eight) = (ids[number % 3], fours[number % 5], eights[number])
            let rows = try connection.run(
                Self.echo,
                [.bool(number % 2 == 0), .int4(four), .int8(eight), .text(text), .bytea(blob), .uuid(id)],
                by: .after(patience))
            #expect(rows.count == 1)
            #expect(rows.bool(0, 0) == (number % 2 == 0))
            #expect(rows.int(0, 1) == Int64(four))
            #expect(rows.int(0, 2) == eight)
            #expect(rows.text(0, 3) == text)
            #expect(rows.octets(0, 4) == blob)
            #expect(rows.withOctets(0, 4) { $0.count } == blob.count)
            #expect(rows.id(0, 5) == id)
            #expect((0..<6).allSatisfy { !rows.isNull(0, $0) })
        }
    }

    @Test func nulls() throws {
        let connection = try WireDatabase().connect()
        for values in [
            Self.everyType.map(PostgresValue.null),
            [.bool(nil), .int4(nil), .int8(nil), .text(nil), .bytea(nil as [UInt8]?), .uuid(nil)],
        ] {
            let rows = try connection.run(Self.echo, values, by: .after(patience))
            #expect((0..<6).allSatisfy { rows.isNull(0, $0) })
        }
    }

    /// As the server shows them: what goes there and back wrong would else look right.
    @Test func theServerSeesTheSame() throws {
        let connection = try WireDatabase().connect()
        let shown = statement(
            "shown", Self.everyType,
            "select concat_ws('|', $1::bool, $2::int4, $3::int8, $4::text, encode($5::bytea, 'hex'), $6::uuid)")
        let rows = try connection.run(
            shown,
            [
                .bool(true), .int4(-2), .int8(1 << 33), .text("ü"), .bytea([1, 0xAB]),
                .uuid(QueueID(high: 0x0123_4567_89AB_CDEF, low: 0xFEDC_BA98_7654_3210)),
            ], by: .after(patience))
        #expect(rows.text(0, 0) == "t|-2|8589934592|ü|01ab|01234567-89ab-cdef-fedc-ba9876543210")
    }

    @Test func arrays() throws {
        let connection = try WireDatabase().connect()
        var columns = [PostgresType.int4, .int8, .text, .bytea, .uuid].map { PostgresColumn($0) }
        let id = QueueID(high: 7, low: 9)
        let blob: [UInt8] = [1, 2, 3]
        columns[0].append(Int32(-5))
        columns[1].append(Int64.max)
        columns[2].append("ä,{\"")
        blob.withUnsafeBytes { columns[3].append($0) }
        columns[4].append(id)
        for place in columns.indices { columns[place].append(nil) }
        columns[0].append(Int32?.none)
        columns[1].append(Int64?(3))
        columns[2].append("")
        columns[3].append(ByteBuffer(bytes: [9]))
        columns[4].append(QueueID?.none)
        #expect(columns.allSatisfy { $0.count == 3 })
        #expect(columns[4].octets == 4 + 16 + 4 + 4)
        let rows = try connection.run(
            statement(
                "unnested", [.int4Array, .int8Array, .textArray, .byteaArray, .uuidArray],
                "select * from unnest($1::int4[], $2::int8[], $3::text[], $4::bytea[], $5::uuid[])"),
            columns.map(\.value), by: .after(patience))
        #expect(rows.count == 3)
        #expect(rows.int(0, 0) == -5 && rows.int(0, 1) == .max && rows.text(0, 2) == "ä,{\"")
        #expect(rows.octets(0, 3) == blob && rows.id(0, 4) == id)
        #expect((0..<5).allSatisfy { rows.isNull(1, $0) })
        #expect(rows.isNull(2, 0) && rows.int(2, 1) == 3 && rows.text(2, 2).isEmpty)
        #expect(rows.octets(2, 3) == [9] && rows.isNull(2, 4))
    }

    @Test func emptyArraysAndColumnsThatAreFilledAgain() throws {
        let connection = try WireDatabase().connect()
        let sum = statement(
            "sum", [.int8Array],
            "select cardinality($1::int8[])::int8, coalesce(sum(n), 0)::int8, count(n) from unnest($1::int8[]) n")
        func sums(_ value: PostgresValue) throws -> [Int64] {
            let rows = try connection.run(sum, [value], by: .after(patience))
            return [rows.int(0, 0), rows.int(0, 1), rows.int(0, 2)]
        }
        var column = PostgresColumn(.int8)
        #expect(column.octets == 0)
        #expect(try sums(column.value) == [0, 0, 0])
        for number in 1...1_000 { column.append(Int64(number)) }
        column.append(nil)
        let kept = column.value
        column.removeAll()
        #expect(column.count == 0 && column.octets == 0)
        #expect(try sums(column.value) == [0, 0, 0])
        column.append(Int64(4))
        #expect(try sums(column.value) == [1, 4, 1])
        #expect(try sums(kept) == [1_001, 500_500, 1_000])
        #expect(try connection.run(sum, [.null(.int8Array)], by: .after(patience)).isNull(0, 0))
    }

    @Test func tenMegabytes() throws {
        let connection = try WireDatabase().connect()
        let octets = (0..<10_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let large = statement("large", [.bytea], "select $1::bytea, length($1)")
        let buffer = ByteBuffer(bytes: octets)
        let values: [PostgresValue] = [.bytea(octets), .bytea(buffer), octets.withUnsafeBytes { .bytea($0) }]
        for value in values {
            let rows = try connection.run(large, [value], by: .after(patience))
            #expect(rows.int(0, 1) == 10_000_000)
            #expect(rows.octets(0, 0) == octets)
        }
    }

    /// More both ways than what lies between has room for: whoever only sends would wait for ever.
    @Test func muchBothWays() throws {
        let connection = try WireDatabase().connect()
        let mirror = statement("mirror", [.bytea], "select $1::bytea")
        var batch = PostgresBatch()
        let blocks = (0..<40).map { [UInt8](repeating: UInt8($0), count: 1 << 20) }
        for block in blocks { batch.run(mirror, [.bytea(block)]) }
        let rows = try connection.run(batch, by: .after(patience))
        #expect(rows.map { $0.octets(0, 0) } == blocks)
    }

    @Test func smallNumbersAndNames() throws {
        let connection = try WireDatabase().connect()
        let rows = try connection.run(
            statement("small", "select (-3)::int2, 'a'::varchar, 'b'::name where true union all select 4, 'c', 'd'"),
            [],
            by: .after(patience))
        #expect(rows.count == 2 && rows.int(0, 0) == -3 && rows.int(1, 0) == 4)
        #expect(rows.text(0, 1) == "a" && rows.text(1, 2) == "d")
    }

    @Test func aTextWithNULIsRefused() throws {
        let connection = try WireDatabase().connect()
        let nul = statement("nul", [.text], "select $1::text")
        #expect(failure { try connection.run(nul, [.text("a\0b")], by: .after(patience)) }?.state == "22021")
        #expect(try connection.run(nul, [.text("ab")], by: .after(patience)).text(0, 0) == "ab")
    }

    // MARK: Faults of ours

    @Test func aColumnThatIsReadAsWhatItIsNot() async throws {
        let database = try WireDatabase()
        await #expect(processExitsWith: .failure) { [words = database.options().connection as String] in
            let connection = try PostgresConnection(PostgresOptions(connection: words), by: .after(patience))
            _ = try connection.run(statement("wrong", "select 1::int4"), [], by: .after(patience)).text(0, 0)
        }
        await #expect(processExitsWith: .failure) { [words = database.options().connection as String] in
            let connection = try PostgresConnection(PostgresOptions(connection: words), by: .after(patience))
            _ = try connection.run(statement("null", "select null::int4"), [], by: .after(patience)).int(0, 0)
        }
        await #expect(processExitsWith: .failure) { [words = database.options().connection as String] in
            let connection = try PostgresConnection(PostgresOptions(connection: words), by: .after(patience))
            _ = try connection.run(statement("few", "select 1::int4"), [], by: .after(patience)).int(1, 0)
        }
        // All that is right of it, so that the others did not fail for something else.
        await #expect(processExitsWith: .success) { [words = database.options().connection as String] in
            let connection = try PostgresConnection(PostgresOptions(connection: words), by: .after(patience))
            _ = try connection.run(statement("right", "select 1::int4"), [], by: .after(patience)).int(0, 0)
        }
    }

    @Test func otherParametersThanTheStatementHas() async throws {
        await #expect(processExitsWith: .failure) {
            var batch = PostgresBatch()
            batch.run(statement("one", [.int4], "select $1"), [.int8(1)])
        }
        await #expect(processExitsWith: .failure) {
            var column = PostgresColumn(.int4)
            column.append(Int64(1))
        }
        let database = try WireDatabase()
        await #expect(processExitsWith: .failure) { [words = database.options().connection as String] in
            let connection = try PostgresConnection(PostgresOptions(connection: words), by: .after(patience))
            try connection.prepare([statement("one", "select 1"), statement("one", "select 2")], by: .after(patience))
        }
    }
}
