// What the helper says of a command that it was asked to run. PipeConnection writes it, and closes the connection behind it;
// PipeRelay reads it.

internal import SlimtaHelper

/// How a command ended, and what it said.
package struct PipeAnswer: Hashable, Sendable {
    /// The end of it.
    package enum End: Hashable, Sendable {
        /// It has ended with this status, 0 to 255.
        case exited(Int32)
        /// A signal has ended it.
        case signalled(Int32)
        /// It took too long, and was ended.
        case timedOut
        /// It could not be started, or not as whom it should: in words for the operator.
        case notStarted(String)
    }

    /// The end of it.
    package var end: End
    /// The beginning of what it wrote to standard output and standard error, at most ``outputLimit`` octets.
    package var output: [UInt8]

    /// Octets of output that are kept; the rest is read, so that the command goes on, and dropped.
    package static let outputLimit = 8192
    /// The most octets of an answer.
    package static let limit = 2 * outputLimit

    /// An end with the output that led to it.
    package init(_ end: End, output: [UInt8] = []) {
        self.end = end
        self.output = output
    }

    /// One octet that says which end, a number, then the words or the output.
    package var octets: [UInt8] {
        var writer = OctetWriter()
        let (kind, number): (UInt8, Int32) =
            switch end {
            case .exited(let status): (1, status)
            case .signalled(let signal): (2, signal)
            case .timedOut: (3, 0)
            case .notStarted: (4, 0)
            }
        writer.octets.append(kind)
        writer.number(Int64(number))
        if case .notStarted(let reason) = end { writer.octets += reason.utf8 } else { writer.octets += output }
        return writer.octets
    }

    /// nil: it is not whole, or none.
    package init?(_ octets: [UInt8]) {
        var reader = OctetReader(octets[...])
        guard let kind = reader.octet(), let number = reader.number() else { return nil }
        let rest = Array(octets.dropFirst(9))
        switch kind {
        case 1: self.init(.exited(Int32(truncatingIfNeeded: number)), output: rest)
        case 2: self.init(.signalled(Int32(truncatingIfNeeded: number)), output: rest)
        case 3: self.init(.timedOut, output: rest)
        case 4: self.init(.notStarted(String(decoding: rest, as: UTF8.self)))
        default: return nil
        }
    }
}
