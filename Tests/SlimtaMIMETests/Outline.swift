// What tests see of a walk: all of it as lines of text.

import NIOCore
import SlimtaMail
import TestKit

@testable import SlimtaMIME

/// A visitor that writes down what it is told.
struct Outline: MIMEVisitor, Equatable {
    /// One part.
    struct Part: Equatable {
        var index: Int
        var parent: Int?
        var type: String
        var header: String
        var content: [UInt8] = []
        var isEnded = false
    }

    var parts: [Part] = []
    /// All octets in their order.
    var octets: [UInt8] = []
    var preambles: [UInt8] = []
    var epilogues: [UInt8] = []
    private var open: [Int] = []

    mutating func begin(_ entity: MIMEEntity) {
        precondition(entity.index == parts.count && entity.parent == open.last && entity.depth == open.count)
        parts.append(
            Part(
                index: entity.index, parent: entity.parent, type: entity.type, header: String(buffer: entity.header)))
        open.append(entity.index)
        octets += entity.mailboxLines.readableBytesView + entity.header.readableBytesView
    }

    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace) {
        precondition(!octets.isEmpty)
        self.octets += octets
        switch place {
        case .body: parts[open[open.count - 1]].content += octets
        case .preamble: preambles += octets
        case .epilogue: epilogues += octets
        case .delimiter: break
        }
    }

    mutating func end(_ index: Int, isAtEnd: Bool) {
        precondition(open.removeLast() == index)
        parts[index].isEnded = true
    }

    /// "0 multipart/mixed (1 text/plain 2 image/png)"
    var tree: String { parts.isEmpty ? "" : tree(of: 0) }

    private func tree(of index: Int) -> String {
        let inner = parts.filter { $0.parent == index }.map { tree(of: $0.index) }.joined(separator: " ")
        return parts[index].type + (inner.isEmpty ? "" : "(\(inner))")
    }

    /// Walks chunks.
    static func walked(_ chunks: [ByteBuffer], limits: MIMELimits = MIMELimits()) -> Walk {
        var walker = MIMEWalker(Outline(), limits: limits)
        for chunk in chunks { walker.read(chunk) }
        walker.finish()
        return Walk(outline: walker.visitor, exceeded: walker.exceeded)
    }

    /// Walks a text whose lines end with LF here and with CRLF there, cut in many ways.
    static func walked(_ text: String, limits: MIMELimits = MIMELimits()) throws -> Outline {
        let octets = Array(text.utf8).withCRLF
        let walk = try ChunkVerifier.verify(octets) { walked($0, limits: limits) }
        precondition(walk.outline.octets == octets && walk.outline.parts.allSatisfy(\.isEnded))
        return walk.outline
    }
}

/// What came of a walk.
struct Walk: Equatable {
    var outline: Outline
    var exceeded: MIMELimits.Exceeded
}

extension [UInt8] {
    /// LF as CRLF, what is CRLF already as it is.
    var withCRLF: [UInt8] {
        var octets: [UInt8] = []
        for octet in self {
            if octet == 0x0A, octets.last != 0x0D { octets.append(0x0D) }
            octets.append(octet)
        }
        return octets
    }
}

extension String {
    /// As octets in lines that end with CRLF.
    var message: ByteBuffer { ByteBuffer(bytes: Array(utf8).withCRLF) }
}
