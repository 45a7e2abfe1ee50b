// What a fuzzed connection to the HTTP edge is held against: requests as RFC 9112 has them, and answers, read by code that
// shares nothing with the edge. HTTPEdgeSession.swift has the connection.

import SlimtaMail

/// A request as it must be read, if it is to be read at all.
struct StrictRequest: Equatable {
    var method = ""
    var target = ""
    var isOld = false
    var fields: [(name: String, value: String)] = []
    var body: [UInt8] = []

    func values(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

    static func == (a: Self, b: Self) -> Bool {
        a.method == b.method && a.target == b.target && a.body == b.body
    }
}

/// Reads what a client has sent up to the first octet that is not as RFC 9112 has it.
struct StrictReader {
    /// Those that are there to their last octet.
    private(set) var requests: [StrictRequest] = []
    /// Whether nothing is behind them.
    private(set) var isAtEnd = false
    private var rest: ArraySlice<UInt8>

    init(_ octets: ArraySlice<UInt8>) {
        rest = octets
        while true {
            // Section 2.2: a line end too many before a request is nothing.
            rest = rest.drop { $0 == 13 || $0 == 10 }
            if rest.isEmpty {
                isAtEnd = true
                return
            }
            guard let request = request() else { return }
            requests.append(request)
        }
    }

    private mutating func request() -> StrictRequest? {
        var request = StrictRequest()
        guard let words = line()?.split(separator: " ", omittingEmptySubsequences: false), words.count == 3,
            Self.isToken(words[0]), !words[1].isEmpty, ["HTTP/1.1", "HTTP/1.0"].contains(words[2])
        else { return nil }
        (request.method, request.target, request.isOld) = (String(words[0]), String(words[1]), words[2] == "HTTP/1.0")
        guard let fields = fields() else { return nil }
        request.fields = fields
        let (lengths, codings) = (request.values("content-length"), request.values("transfer-encoding"))
        if !codings.isEmpty {
            guard codings.count == 1, codings[0].lowercased() == "chunked", lengths.isEmpty, !request.isOld,
                let body = chunks()
            else { return nil }
            request.body = body
        } else if let text = lengths.first {
            guard lengths.count == 1, !text.isEmpty, text.utf8.allSatisfy(\.isASCIIDigit), let length = Int(text),
                rest.count >= length
            else { return nil }
            request.body = Array(rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        return request
    }

    /// Up to the empty line, which is read as well. Names in lower case, values without the blanks around them.
    private mutating func fields() -> [(name: String, value: String)]? {
        var fields: [(name: String, value: String)] = []
        while let line = line() {
            if line.isEmpty { return fields }
            guard let colon = line.firstIndex(of: ":"), Self.isToken(line[..<colon]) else { return nil }
            let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" }
            let value = String(
                line[line.index(after: colon)...].drop(while: isBlank).reversed().drop(while: isBlank)
                    .reversed())
            fields.append((line[..<colon].lowercased(), value))
        }
        return nil
    }

    private mutating func chunks() -> [UInt8]? {
        var body: [UInt8] = []
        while let line = line() {
            let digits = line.prefix { $0 != ";" && $0 != " " && $0 != "\t" }
            guard !digits.isEmpty, digits.utf8.allSatisfy({ $0.hexadecimalValue != nil }),
                let length = Int(digits, radix: 16)
            else { return nil }
            if length == 0 { return fields() == nil ? nil : body }
            guard rest.count >= length + 2 else { return nil }
            body += rest.prefix(length)
            rest = rest.dropFirst(length)
            guard rest.starts(with: [13, 10]) else { return nil }
            rest = rest.dropFirst(2)
        }
        return nil
    }

    /// Each octet as a character: Latin-1. Without its end; nil: there is none, or something is in it that may not be.
    private mutating func line() -> String? {
        guard let end = rest.firstIndex(where: { $0 == 13 || $0 == 10 }), rest[end...].starts(with: [13, 10]),
            rest[..<end].allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 })
        else { return nil }
        defer { rest = rest[(end + 2)...] }
        return String(String.UnicodeScalarView(rest[..<end].map { Unicode.Scalar($0) }))
    }

    private static func isToken(_ text: Substring) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { $0.isASCIILetterOrDigit || "!#$%&'*+-.^_`|~".utf8.contains($0) }
    }
}

/// What the edge has answered.
struct ReadAnswer {
    let status: Int
    var fields: [String: String] = [:]
    var body: [UInt8] = []

    var isInterim: Bool { (100...199).contains(status) }
    var isLast: Bool { fields["connection"] == "close" }

    /// All answers, interim ones too. Throws ``Broken`` if they are anything else than answers one after another.
    ///
    /// - Parameter methods: of the requests that they may be answers to, in order.
    static func all(_ octets: [UInt8], to methods: [String]) throws -> [ReadAnswer] {
        var (answers, rest, number) = ([ReadAnswer](), octets[...], 0)
        while !rest.isEmpty {
            guard let end = rest.firstRange(of: [13, 10, 13, 10]) else {
                throw Broken(description: "half an answer: \(String(decoding: rest, as: UTF8.self))")
            }
            let lines = String(decoding: rest[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
            let words = lines[0].split(separator: " ", maxSplits: 2)
            guard words.count >= 2, words[0] == "HTTP/1.1", let status = Int(words[1]) else {
                throw Broken(description: "no status line: \(lines[0])")
            }
            rest = rest[end.upperBound...]
            var answer = ReadAnswer(status: status)
            for line in lines.dropFirst() {
                guard let colon = line.firstRange(of: ": ") else { throw Broken(description: "no field: \(line)") }
                let name = line[..<colon.lowerBound].lowercased()
                try hold(answer.fields[name] == nil, "\(name) twice in an answer")
                answer.fields[name] = String(line[colon.upperBound...])
            }
            defer { answers.append(answer) }
            if answer.isInterim { continue }
            guard let length = answer.fields["content-length"].flatMap({ Int($0) }) else {
                throw Broken(description: "an answer without a length: \(answer.fields)")
            }
            let isToHead = number < methods.count && methods[number] == "HEAD"
            number += 1
            if isToHead { continue }
            try hold(rest.count >= length, "an answer that was cut")
            answer.body = Array(rest.prefix(length))
            rest = rest.dropFirst(length)
        }
        return answers
    }
}
