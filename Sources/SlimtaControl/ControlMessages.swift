// What is asked over the control socket and what is answered: between the server, which knows HTTP, and the service,
// which knows the daemon.

package import NIOCore
internal import SlimtaMail
package import SlimtaNet

/// Who asks: as the kernel says, not as the client does.
package struct ControlPeer: Hashable, Sendable {
    package var uid: UInt32
    package var pid: Int32

    package init(uid: UInt32, pid: Int32) {
        self.uid = uid
        self.pid = pid
    }
}

/// A request. What it says is all in the method, the path and the query; there is never a body.
package struct ControlRequest: Sendable {
    package enum Method: String, Sendable {
        case get = "GET"
        case post = "POST"
    }

    /// A parameter of the query, decoded. `value` is empty where there is only a name.
    package struct Parameter: Hashable, Sendable {
        package var name: String
        package var value: String

        package init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    package var method: Method
    /// The parts of the path, decoded: `/queue/019a` is "queue", "019a".
    package var path: [String]
    package var query: [Parameter]
    package var peer: ControlPeer

    package init(method: Method, path: [String], query: [Parameter], peer: ControlPeer) {
        self.method = method
        self.path = path
        self.query = query
        self.peer = peer
    }

    /// Reads the target of a request line; nil if it is none.
    package init?(method: Method, target: String, peer: ControlPeer) {
        let halves = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = halves.first, whole.hasPrefix("/") else { return nil }
        var path: [String] = []
        for part in whole.split(separator: "/") {
            guard let part = Self.decoded(part, plusIsSpace: false) else { return nil }
            path.append(part)
        }
        var query: [Parameter] = []
        for part in halves.count == 2 ? halves[1].split(separator: "&") : [] {
            let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = Self.decoded(sides[0], plusIsSpace: true),
                let value = Self.decoded(sides.count == 2 ? sides[1] : "", plusIsSpace: true)
            else { return nil }
            query.append(Parameter(name, value))
        }
        self.init(method: method, path: path, query: query, peer: peer)
    }

    /// The target that says this path and this query: what a client writes into its request line.
    package static func target(_ path: [String], _ query: [Parameter] = []) -> String {
        let start = "/" + path.map(encoded).joined(separator: "/")
        if query.isEmpty { return start }
        return start + "?" + query.map { "\(encoded($0.name))=\(encoded($0.value))" }.joined(separator: "&")
    }

    private static func decoded(_ text: Substring, plusIsSpace: Bool) -> String? {
        var octets: [UInt8] = []
        var rest = text.utf8[...]
        while let octet = rest.popFirst() {
            switch octet {
            case UInt8(ascii: "%"):
                guard let first = rest.popFirst().flatMap(\.hexadecimalValue),
                    let second = rest.popFirst().flatMap(\.hexadecimalValue)
                else { return nil }
                octets.append(first << 4 | second)
            case UInt8(ascii: "+") where plusIsSpace: octets.append(0x20)
            default: octets.append(octet)
            }
        }
        return String(validating: octets, as: UTF8.self)
    }

    private static func encoded(_ text: String) -> String {
        var octets: [UInt8] = []
        for octet in text.utf8 {
            if octet.isASCIILetterOrDigit || "-._~".utf8.contains(octet) {
                octets.append(octet)
            } else {
                octets += "%\(String(hexadecimal: octet, digits: 2, uppercase: true))".utf8
            }
        }
        return String(decoding: octets, as: UTF8.self)
    }
}

/// An answer.
package struct ControlResponse: Sendable {
    package enum Content: Sendable {
        case json(JSON)
        /// Octets as they come: nil is the end. An error breaks the connection off, so that nobody takes the beginning
        /// for the whole.
        case octets(type: String, next: @Sendable () async throws -> ByteBuffer?)
    }

    /// The status of HTTP.
    package var status: Int
    package var content: Content
    /// Called when the answer is on its way: for what may end the server before it has answered.
    package var afterwards: @Sendable () -> Void = {}

    package init(_ json: JSON, status: Int = 200, afterwards: @escaping @Sendable () -> Void = {}) {
        self.status = status
        self.afterwards = afterwards
        content = .json(json)
    }

    package init(type: String, next: @escaping @Sendable () async throws -> ByteBuffer?) {
        status = 200
        content = .octets(type: type, next: next)
    }

    /// A refusal, and what to do about it.
    package static func error(_ status: Int, _ text: String) -> ControlResponse {
        ControlResponse(.object([.init("error", .string(text))]), status: status)
    }
}

/// Answers requests. The composition root has it.
package protocol ControlService: Sendable {
    /// Answers one request of a peer who may ask. Must not block.
    func respond(to request: ControlRequest) async -> ControlResponse
}
