// The way of a report from the count to who takes it, and the file that all of it is kept in.

import SlimtaMail
import Testing

@testable import SlimtaRelay

@Suite struct TLSReportBookTests {
    private static let day = 20_786
    private static let noon = Timestamp(milliseconds: Int64(day) * 86_400_000 + 43_200_000)
    private static let midnight = Timestamp(milliseconds: Int64(day + 1) * 86_400_000)

    private static func submitter() throws -> TLSReport.Submitter {
        .init(organization: "sender.example", contact: try #require(Mailbox(parsing: "tls@sender.example")))
    }

    /// One failure of example.com, of which DNS has said that it wants reports; one of example.net, which DNS says nothing of.
    private func book() throws -> TLSReportBook {
        var book = TLSReportBook()
        var negotiation = TLSNegotiation(
            policies: [
                .tlsa(["3 1 1 AB"], base: "mx.example.com"): [TLSResult(.startTLSNotSupported)],
                .none("example.com"): [],
            ], source: "192.0.2.1", mxName: "mx.example.com", mxHELO: nil, address: "192.0.2.2")
        _ = book.counter.count(negotiation, for: "example.com", at: Self.noon)
        negotiation.mxHELO = "x\u{1F4EF}\"\\"
        _ = book.counter.count(negotiation, for: "example.com", at: Self.noon)
        let text = "v=TLSRPTv1; rua=mailto:a%25b@example.com,https://r.example.com/x?y=%20"
        book.counter.wants(TLSReportRecord(among: [Array(text.utf8)]), "example.com", at: Self.noon)
        _ = book.counter.count(negotiation, for: "example.net", at: Self.noon)
        return book
    }

    private func written(_ book: TLSReportBook) throws -> TLSReportBook {
        try #require(TLSReportBook(octets: book.octets))
    }

    @Test func itsTime() throws {
        var book = try book()
        book.close(at: Self.noon, by: try Self.submitter()) { 0 }
        #expect(book.letters.isEmpty)
        book.close(at: Self.midnight, by: try Self.submitter()) { 0.5 }
        #expect(book.letters.map(\.due) == [Self.midnight + .seconds(600 + 7200)])
        let early = book.takeDue(at: Self.midnight + .seconds(7799), atMost: 9)
        #expect(early.isEmpty)
        let taken = book.takeDue(at: Self.midnight + .seconds(7800), atMost: 9)
        #expect(taken.map(\.report.domain) == ["example.com"] && book.letters.isEmpty)
        // Not counted twice.
        #expect(book.counter.counts.map(\.domain) == ["example.net"])
        book.sent(try #require(taken.first), to: "x", at: Self.midnight)
        #expect(book.past.map(\.place) == ["x"])
    }

    /// What was being sent when the daemon crashed is gone; what waits is not.
    @Test func aCrash() throws {
        var book = try book()
        book.close(at: Self.midnight, by: try Self.submitter()) { 0 }
        #expect(try written(book).letters == book.letters)
        let taken = book.takeDue(at: Self.midnight + .seconds(600), atMost: 9)
        #expect(taken.count == 1)
        #expect(try written(book).letters.isEmpty)
        book.untaken(taken)
        #expect(try written(book).letters == taken)
    }

    @Test func nobodyTakesIt() throws {
        var book = try book()
        book.close(at: Self.midnight, by: try Self.submitter()) { 0 }
        var now = Self.midnight + .seconds(600)
        var tries = 0
        while let letter = book.takeDue(at: now, atMost: 1).first {
            tries += 1
            let isDropped = book.failed(letter, "no", at: now)
            #expect(isDropped == book.letters.isEmpty)
            if let next = book.letters.first {
                #expect(next.error == "no" && next.due - now >= .seconds(300))
                now = next.due
            }
        }
        #expect(tries == 9 && now < Self.midnight + .seconds(600 + 86_400))
        #expect(book.past.map(\.error) == ["no"] && book.past.first?.place == nil)
    }

    @Test func atOnce() throws {
        var book = try book()
        book.hurry(at: Self.noon, withToday: false, by: try Self.submitter())
        #expect(book.letters.isEmpty)
        book.hurry(at: Self.noon, withToday: true, by: try Self.submitter())
        let taken = book.takeDue(at: Self.noon, atMost: 9)
        #expect(taken.count == 1)
    }

    @Test func theFile() throws {
        var book = try book()
        let before = try written(book)
        #expect(before.counter.counts == book.counter.counts && before.counter.counts.count == 2)
        book.close(at: Self.midnight, by: try Self.submitter()) { 1 }
        let due = book.takeDue(at: Self.midnight + .seconds(20_000), atMost: 9)
        let taken = try #require(due.first)
        let isDropped = book.failed(taken, "why", at: Self.midnight + .seconds(20_000))
        #expect(!isDropped)
        book.sent(taken, to: "mailto:x@y", at: Self.midnight)
        let again = try written(book)
        #expect(again.letters == book.letters && again.past == book.past)
        #expect(
            again.letters.first?.destinations.map(\.description) == [
                "mailto:a%b@example.com", "https://r.example.com/x?y=%20",
            ])
        #expect(again.octets == book.octets)
        for octets in [[], Array("{}".utf8), Array("{\"version\":2}".utf8), book.octets.dropLast(9).map(\.self)] {
            #expect(TLSReportBook(octets: octets) == nil)
        }
    }

    /// The one that is due first is sent first, whenever it was made or tried.
    @Test func theOrder() throws {
        var book = try book()
        for number in 0..<20 {
            let domain = "d\(number).example"
            let negotiation = TLSNegotiation(
                policies: [.none(domain): []], source: "192.0.2.1", mxName: "mx", mxHELO: nil, address: "192.0.2.2")
            _ = book.counter.count(negotiation, for: domain, at: Self.noon)
            let record = TLSReportRecord(among: [Array("v=TLSRPTv1; rua=mailto:a@\(domain)".utf8)])
            book.counter.wants(record, domain, at: Self.noon)
        }
        book.close(at: Self.midnight, by: try Self.submitter()) { Double.random(in: 0...1) }
        #expect(book.letters.count == 21)
        let times = book.letters.map(\.due)
        #expect(times == times.sorted())
        let taken = book.takeDue(at: times[9], atMost: 5)
        #expect(taken.map(\.due) == Array(times[..<5]))
        for letter in taken {
            let isDropped = book.failed(letter, "no", at: times[9])
            #expect(!isDropped)
        }
        #expect(book.letters.map(\.due) == book.letters.map(\.due).sorted() && book.letters.count == 21)
        #expect(try written(book).letters == book.letters)
    }

    /// What waited while nobody could send it is not sent when somebody can again.
    @Test func oldLetters() throws {
        var book = try book()
        book.close(at: Self.midnight, by: try Self.submitter()) { 0 }
        let end = try #require(book.letters.first?.end)
        let early = book.dropOld(at: end + .seconds(-1))
        #expect(early.isEmpty && book.letters.count == 1)
        let later = end + .seconds(90 * 86_400)
        let dropped = book.dropOld(at: later)
        #expect(dropped.map(\.domain) == ["example.com"] && dropped == book.past && dropped[0].error != nil)
        let taken = book.takeDue(at: later, atMost: 9)
        #expect(taken.isEmpty && book.letters.isEmpty && book.counter.reserved == 0)
    }

    /// Nobody has to remember all of them.
    @Test func thePastIsBounded() throws {
        var book = try book()
        book.close(at: Self.midnight, by: try Self.submitter()) { 0 }
        let letter = try #require(book.letters.first)
        for number in 0..<300 { book.sent(letter, to: "\(number)", at: Self.midnight) }
        #expect(book.past.count == TLSReportBook.mostPast && book.past.last?.place == "299")
    }
}
