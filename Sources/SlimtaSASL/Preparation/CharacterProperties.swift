// What Unicode says of a character, and the forms of texts: by libunistring, all of one version of Unicode. SASLprep and PRECIS
// ask it.

internal import CUnistring
import Glibc

/// A form of a text in which what looks the same is the same (UAX #15).
enum NormalForm {
    /// What is composed of the same.
    case nfc
    /// And what is a variant of another: ligatures, widths, circled digits.
    case nfkc
}

extension [Unicode.Scalar] {
    /// In a normal form.
    func normalized(_ form: NormalForm) -> [Unicode.Scalar] {
        let form = form == .nfc ? C_uninorm_nfc() : C_uninorm_nfkc()
        return converted { u32_normalize(form, $0, $1, nil, $2) }
    }

    /// What a function of libunistring makes of them, which is in memory of its own.
    private func converted(
        _ convert: (UnsafePointer<UInt32>?, Int, UnsafeMutablePointer<Int>) -> UnsafeMutablePointer<UInt32>?
    ) -> [Unicode.Scalar] {
        var count = 0
        guard let found = convert(map(\.value), self.count, &count) else {
            preconditionFailure("libunistring: no memory")
        }
        defer {
            // It may be a password.
            explicit_bzero(found, count * MemoryLayout<UInt32>.size)
            free(found)
        }
        return UnsafeBufferPointer(start: found, count: count).compactMap(Unicode.Scalar.init)
    }
}

extension Unicode.Scalar {
    /// Its general category, as one of the bits `UC_CATEGORY_MASK_…`.
    private var category: UInt32 { C_uc_category(value) }

    private func isOne(of categories: Int) -> Bool { Int(category) & categories != 0 }

    /// Nobody has said yet what it is: Cn, but for those that nobody ever will.
    var isUnassigned: Bool { isOne(of: UC_CATEGORY_MASK_Cn) && !isNoncharacter }
    /// Never a character.
    var isNoncharacter: Bool { uc_is_property_not_a_character(value) }
    /// Ll Lu Lo Nd Lm Mn Mc: what words and numbers are made of (RFC 8264 section 9.1).
    var isLetterOrDigit: Bool {
        isOne(
            of: UC_CATEGORY_MASK_Ll | UC_CATEGORY_MASK_Lu | UC_CATEGORY_MASK_Lo
                | UC_CATEGORY_MASK_Nd | UC_CATEGORY_MASK_Lm | UC_CATEGORY_MASK_Mn
                | UC_CATEGORY_MASK_Mc)
    }
    /// Lt Nl No Me, blanks, symbols and punctuation (RFC 8264 sections 9.14 to 9.18): for passwords, not for names.
    var isFreeText: Bool {
        isOne(
            of: UC_CATEGORY_MASK_Lt | UC_CATEGORY_MASK_Nl | UC_CATEGORY_MASK_No
                | UC_CATEGORY_MASK_Me | UC_CATEGORY_MASK_Zs | UC_CATEGORY_MASK_S
                | UC_CATEGORY_MASK_P)
    }
    /// Zs: a blank of any width.
    var isBlank: Bool { isOne(of: UC_CATEGORY_MASK_Zs) }
    /// Cc: steers a device.
    var isControl: Bool { isOne(of: UC_CATEGORY_MASK_Cc) }
    /// Nobody sees it where it is not understood.
    var isIgnorable: Bool { uc_is_property_default_ignorable_code_point(value) }
    /// Canonical_Combining_Class=Virama: joins letters of Indic scripts.
    var isVirama: Bool { uc_combining_class(value) == 9 }
    /// Whether it is a variant of something else: NFKC changes it.
    var hasCompatibility: Bool { [self].normalized(.nfkc) != [self] }
    /// Its Bidi_Class (UAX #9), one of `UC_BIDI_…`.
    var direction: Direction { Direction(of: value) }
    /// Its Joining_Type, one of `UC_JOINING_TYPE_…`.
    var joining: Joining { Joining(of: value) }
    /// "Greek", "Hebrew", "Han"; nil: it has none.
    var script: String? { C_uc_script_name(value).map { String(cString: $0) } }

    /// What a character of full or half width is in the usual one; itself, if it is of that.
    var ofUsualWidth: [Unicode.Scalar] {
        var tag = CInt(0)
        var found = [ucs4_t](repeating: 0, count: Int(UC_DECOMPOSITION_MAX_LENGTH))
        let count = uc_decomposition(value, &tag, &found)
        guard count > 0, [UC_DECOMP_WIDE, UC_DECOMP_NARROW].contains(Int(tag)) else {
            return [self]
        }
        return found.prefix(Int(count)).compactMap(Unicode.Scalar.init)
    }
}

/// Which way a character is written: the classes that rules for texts of both directions name.
enum Direction {
    case left, right, arabic, arabicNumber, europeanNumber, separator, terminator, mark, neutral, other

    fileprivate init(of value: UInt32) {
        switch Int(uc_bidi_class(value)) {
        case UC_BIDI_L: self = .left
        case UC_BIDI_R: self = .right
        case UC_BIDI_AL: self = .arabic
        case UC_BIDI_AN: self = .arabicNumber
        case UC_BIDI_EN: self = .europeanNumber
        case UC_BIDI_ES, UC_BIDI_CS: self = .separator
        case UC_BIDI_ET: self = .terminator
        case UC_BIDI_NSM: self = .mark
        case UC_BIDI_ON, UC_BIDI_BN: self = .neutral
        default: self = .other
        }
    }
}

/// How a letter is written together with the next.
enum Joining {
    case transparent, left, right, both, none

    fileprivate init(of value: UInt32) {
        switch Int(uc_joining_type(value)) {
        case UC_JOINING_TYPE_T: self = .transparent
        case UC_JOINING_TYPE_L: self = .left
        case UC_JOINING_TYPE_R: self = .right
        case UC_JOINING_TYPE_D: self = .both
        default: self = .none
        }
    }
}
