// A regular expression of slimta.conf: PCRE2 behind one owner. TextPattern has it.

internal import CPCRE2
internal import SlimtaMail

/// A Perl-compatible regular expression over UTF-8, that ignores case and takes no longer than its limits allow.
final class RegularExpression: Sendable {
    /// How much backtracking is allowed: some milliseconds' worth, and more than an expression needs that is meant well and
    /// goes over an address or a line of a header twice.
    private static let matchLimit: UInt32 = 100_000
    /// In KiB.
    private static let heapLimit: UInt32 = 1024
    /// How much of a text is looked at, in octets: whoever pads it gets no further than that its end is not seen.
    static let textLimit = 16 * 1024

    // Compiled once, and never written to again: PCRE2 allows any number of threads to match with it.
    private nonisolated(unsafe) let code: OpaquePointer
    private nonisolated(unsafe) let context: OpaquePointer

    /// Throws why `text` is no expression, and where.
    ///
    /// - Parameter matchesWhole: whether a text has to match from its beginning to its end.
    init(_ text: String, matchesWhole: Bool = false) throws(RuleError) {
        var number: CInt = 0
        var offset = 0
        let octets = Array(text.utf8)
        var options = PCRE2_UTF | PCRE2_CASELESS | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C
        if matchesWhole { options |= PCRE2_ANCHORED | PCRE2_ENDANCHORED }
        guard let code = pcre2_compile_8(octets, octets.count, options, &number, &offset, nil) else {
            throw RuleError(
                "\(Self.words(number)) at character \(offset + 1) of the expression", "a Perl-compatible one")
        }
        guard let context = pcre2_match_context_create_8(nil) else {
            pcre2_code_free_8(code)
            throw RuleError("an expression that there is no memory for", "a smaller one")
        }
        pcre2_set_match_limit_8(context, Self.matchLimit)
        pcre2_set_depth_limit_8(context, Self.matchLimit)
        pcre2_set_heap_limit_8(context, Self.heapLimit)
        self.code = code
        self.context = context
    }

    deinit {
        pcre2_match_context_free_8(context)
        pcre2_code_free_8(code)
    }

    /// What a text is to an expression.
    enum Match: Equatable {
        case yes, no
        /// It took too long: nobody knows.
        case unknown
    }

    /// Whether it is found anywhere in `text`, of which a long one is cut at a character: its first 16 KiB are all of it.
    func match(_ text: String) -> Match {
        guard let data = pcre2_match_data_create_8(1, nil) else { return .unknown }
        defer { pcre2_match_data_free_8(data) }
        var text = text.cut(toOctets: Self.textLimit)
        let result = text.withUTF8 {
            pcre2_match_8(code, $0.baseAddress, $0.count, 0, PCRE2_NO_UTF_CHECK, data, context)
        }
        if result >= 0 { return .yes }
        return result == PCRE2_ERROR_NOMATCH ? .no : .unknown
    }

    /// How many groups it has.
    var groupCount: Int {
        var count: UInt32 = 0
        _ = pcre2_pattern_info_8(code, UInt32(PCRE2_INFO_CAPTURECOUNT), &count)
        return Int(count)
    }

    /// What its groups are in `text`, the whole match first, a group that takes no part being nothing; nil where it does not
    /// match. Throws ``Undecided`` if it took too long.
    func groups(in text: String) throws(Undecided) -> [String]? {
        guard let data = pcre2_match_data_create_from_pattern_8(code, nil) else { throw Undecided() }
        defer { pcre2_match_data_free_8(data) }
        let octets = Array(text.cut(toOctets: Self.textLimit).utf8)
        let result = pcre2_match_8(code, octets, octets.count, 0, PCRE2_NO_UTF_CHECK, data, context)
        guard result >= 0 else {
            if result == PCRE2_ERROR_NOMATCH { return nil }
            throw Undecided()
        }
        guard let offsets = pcre2_get_ovector_pointer_8(data) else { throw Undecided() }
        return (0...groupCount).map { group in
            let (start, end) = (offsets[2 * group], offsets[2 * group + 1])
            // A group that takes no part has PCRE2_UNSET, the largest size_t: a size_t is an Int here, and that is -1.
            guard 0 <= start, start <= end, end <= octets.count else { return "" }
            return String(decoding: octets[start..<end], as: UTF8.self)
        }
    }

    /// A match took too long: nobody knows.
    struct Undecided: Error {}

    private static func words(_ number: CInt) -> String {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 256) { buffer in
            let count = pcre2_get_error_message_8(number, buffer.baseAddress, buffer.count)
            return count > 0 ? String(decoding: buffer.prefix(Int(count)), as: UTF8.self) : "error \(number)"
        }
    }
}
