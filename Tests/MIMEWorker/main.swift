// Says what SlimtaMIME makes of messages: each line of standard input is one in base64. Run by Tests/Interop/test_mime.py,
// which has Python judge; with the argument "bench", by `make bench-policies`. Not installed.

import Glibc
import NIOCore
import SlimtaMIME
import SlimtaMail

/// The parts as lines: number, what it is in, type, names and content in hexadecimal.
struct Outline: MIMEVisitor {
    var lines: [String] = []
    private var entities: [MIMEEntity] = []
    private var contents: [Int: [UInt8]] = [:]
    private var open: [Int] = []

    mutating func begin(_ entity: MIMEEntity) {
        entities.append(entity)
        open.append(entity.index)
    }

    mutating func take(_ octets: UnsafeRawBufferPointer, as place: MIMEPlace) {
        if place == .body, let last = open.last { contents[last, default: []] += octets }
    }

    mutating func end(_ index: Int, isAtEnd: Bool) { open.removeLast() }

    func text() -> String {
        entities.map { entity in
            let names = entity.names.map { Array($0.utf8).hexadecimal }.joined(separator: ",")
            let content = (contents[entity.index] ?? []).hexadecimal
            return "\(entity.index) \(entity.parent ?? -1) \(entity.type.visibleASCII) [\(names)] [\(content)]\n"
        }.joined()
    }
}

/// A line with a word and how many octets follow, and these.
func answer(_ word: String, _ octets: ByteBuffer) {
    for piece in [ByteBuffer(string: "\(word) \(octets.readableBytes)\n"), octets] {
        piece.withUnsafeReadableBytes { octets in
            var rest = octets
            while !rest.isEmpty {
                let count = write(STDOUT_FILENO, rest.baseAddress, rest.count)
                guard count > 0 else { exit(EX_IOERR) }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
    }
}

if CommandLine.arguments.dropFirst().first == "bench" {
    bench()
    exit(0)
}
while let line = readLine() {
    guard let octets = Base64.decode(line.utf8) else { exit(EX_DATAERR) }
    let message = ByteBuffer(bytes: octets)
    var walker = MIMEWalker(Outline())
    walker.read(message)
    walker.finish()
    answer("parts", ByteBuffer(string: walker.visitor.text()))

    var planner = ConversionPlanner()
    planner.read(message)
    switch planner.finish() {
    case .unchanged: answer("unchanged", message)
    case .convert(let plan): answer("converted", plan.applied(to: message))
    case .impossible(let obstacle): answer("impossible", ByteBuffer(string: obstacle.description))
    }

    let containment = HeaderContainment(of: HeaderBlock(scanning: message), in: message)
    if let need = containment.smtputf8Need {
        answer("utf8", ByteBuffer(string: need.description))
    } else {
        answer(containment.faults.isEmpty ? "ascii" : "stays", containment.applied(to: message))
    }
}
