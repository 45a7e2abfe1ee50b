// Who a message is for by its header alone: `sendmail -t`, files that are dropped without an envelope, JSON. And which
// fields tell one recipient of another and must not go out.

package import NIOCore

/// The recipients that a header names, as `sendmail -t` takes them.
package struct HeaderEnvelope: Hashable, Sendable {
    /// A field whose addresses cannot be read.
    package struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
        /// The name of the field, as it is written.
        package let field: String
        /// The offset into the header of the octet where it is.
        package let offset: Int
        /// What is wrong.
        package let reason: AddressList.Fault.Reason

        /// In words: "found an address without a domain in the field To".
        package var description: String { "found \(reason.rawValue) in the field \(field)" }
    }

    /// Each address once, in the order of the fields.
    package let recipients: [Mailbox]
    /// Whether the newest block of Resent fields named them: it is the message of somebody else, sent on.
    package let isResent: Bool

    /// Reads To, Cc and Bcc (RFC 5322 section 3.6.3). Of a message that is sent on (section 3.6.6) it is Resent-To, Resent-Cc
    /// and Resent-Bcc of the newest block alone, which is the topmost one: who got it before does not get it again.
    /// - Parameters:
    ///   - header: what was found in `buffer`.
    ///   - domain: what an address without one gets; nil: such an address is a fault.
    package init(
        reading header: HeaderBlock, in buffer: ByteBuffer, qualifiedWith domain: String? = nil
    ) throws(Fault) {
        let resent = Self.newestResentBlock(header, buffer)
        isResent = !resent.isEmpty
        let names: [StaticString] = isResent ? ["resent-to", "resent-cc", "resent-bcc"] : ["to", "cc", "bcc"]
        var found: [Mailbox] = []
        for field in isResent ? resent : header.fields[...]
        where names.contains(where: { field.isNamed($0, in: buffer) }) {
            do throws(AddressList.Fault) {
                let list = try AddressList(parsing: field.value(in: buffer), qualifiedWith: domain)
                found += list.entries.map(\.mailbox)
            } catch {
                throw Fault(
                    field: field.name(in: buffer), offset: field.valueOffset(in: buffer) + error.offset,
                    reason: error.reason)
            }
        }
        recipients = found.eachOnce
    }

    /// The fields that no recipient may see: Bcc and Resent-Bcc, of all blocks.
    package static func blindFields(of header: HeaderBlock, in buffer: ByteBuffer) -> [HeaderBlock.Field] {
        header.fields.filter { $0.isNamed("bcc", in: buffer) || $0.isNamed("resent-bcc", in: buffer) }
    }

    /// From the first Resent field on, up to what is none, or has a name again that the block has: the next block.
    package static func newestResentBlock(
        _ header: HeaderBlock, _ buffer: ByteBuffer
    ) -> ArraySlice<HeaderBlock.Field> {
        // Few messages have one.
        guard !header.fields(in: buffer, namesBeginningWith: "resent-").isEmpty else { return [] }
        func resentName(_ field: HeaderBlock.Field) -> String? {
            let name = field.name(in: buffer).asciiLowercased()
            return name.utf8.starts(with: "resent-".utf8) ? name : nil
        }
        let rest = header.fields.drop { resentName($0) == nil }
        var names: Set<String> = []
        return rest.prefix { field in resentName(field).map { names.insert($0).inserted } ?? false }
    }
}
