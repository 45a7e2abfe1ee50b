// The other end of the control socket, and of the sendmail edge's: one blocking connection of a command such as `slimtad
// status` or `sendmail`. Plain system calls and no event loop, since a command must start quickly.

import Glibc
package import SlimtaNet

/// Why the daemon could not be asked.
package enum ControlError: Error, Hashable, Sendable {
    /// Nobody listens: no daemon runs.
    case noDaemon
    /// The socket is there, and this user may not use it.
    case notPermitted
    /// Anything else, in words.
    case failed(String)
}

/// A connection to a running daemon. Belongs to one thread.
package final class ControlClient {
    private let path: String
    private let descriptor: CInt
    /// What has been read and not used.
    private var buffer: [UInt8] = []
    private var used = 0
    /// The daemon has answered before the body was whole.
    private var isAnsweredEarly = false

    /// How long the daemon may be silent.
    private static let patience = 300

    /// Connects to the socket at `path`.
    package init(_ path: String) throws(ControlError) {
        self.path = path
        descriptor = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .failed("cannot make a socket: \(String(cString: strerror(errno)))") }
        switch withUnixSocketAddress(of: path, { connect(descriptor, $0, $1) == 0 ? 0 : errno }) {
        case 0?: break
        case nil: throw .failed("\(path): longer than the name of a socket may be")
        case ENOENT?, ECONNREFUSED?: throw .noDaemon
        case EACCES?, EPERM?: throw .notPermitted
        case let error?: throw .failed("cannot connect to \(path): \(String(cString: strerror(error)))")
        }
        var time = timeval(tv_sec: Self.patience, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        _ = setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        _ = setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
    }

    deinit { close(descriptor) }

    /// Asks, and returns the status and the JSON of the answer. Further requests may follow.
    package func ask(
        _ method: ControlRequest.Method, _ path: [String], _ query: [HTTPTarget.Parameter] = []
    ) throws(ControlError) -> (status: Int, JSON) {
        var octets: [UInt8] = []
        let status = try ask(method, path, query) { octets += $1 }
        do throws(JSONError) { return (status, try JSON(parsing: octets)) } catch {
            throw .failed("the daemon's answer is \(error)")
        }
    }

    /// Asks, and hands out the octets of the answer as they come, with its status; returns the status.
    package func ask(
        _ method: ControlRequest.Method, _ path: [String], _ query: [HTTPTarget.Parameter] = [],
        _ take: (Int, ArraySlice<UInt8>) -> Void
    ) throws(ControlError) -> Int {
        try send("\(method.rawValue) \(HTTPTarget(path, query)) HTTP/1.1\r\nHost: slimtad\r\n\r\n".utf8)
        return try answer(take)
    }

    // MARK: A body that is sent piece by piece

    /// Begins a POST, whose body of `length` octets follows by ``append(_:)``.
    ///
    /// - Parameter fields: of the header, without those of framing; no value may have CR or LF in it.
    package func begin(
        _ path: [String], _ fields: [(name: String, value: String)], length: Int
    ) throws(ControlError) {
        let lines = fields.map { "\($0.name): \($0.value)\r\n" }.joined()
        isAnsweredEarly = false
        try push(
            "POST \(HTTPTarget(path, [])) HTTP/1.1\r\nHost: slimtad\r\nContent-Length: \(length)\r\n\(lines)\r\n".utf8)
    }

    /// Sends a part of the body, unless the daemon wants no more of it: its answer then says why.
    package func append(_ octets: some Sequence<UInt8>) throws(ControlError) { try push(octets) }

    /// The body is whole: returns the answer's status and its JSON, null where it has none.
    package func finish() throws(ControlError) -> (status: Int, JSON) {
        var octets: [UInt8] = []
        let status = try answer { octets += $1 }
        return (status, (try? JSON(parsing: octets)) ?? .null)
    }

    private func push(_ octets: some Sequence<UInt8>) throws(ControlError) {
        guard !isAnsweredEarly else { return }
        do throws(ControlError) { try send(octets) } catch {
            // A refusal may have come while we sent: it is there to be read.
            var place = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&place, 1, 0) == 1 else { throw error }
            isAnsweredEarly = true
        }
    }

    // MARK: Octets

    /// Reads an answer, whose octets are handed out as they come; returns its status.
    private func answer(_ take: (Int, ArraySlice<UInt8>) -> Void) throws(ControlError) -> Int {
        let words = try line().split(separator: " ", maxSplits: 2)
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw .failed("what listens on \(self.path) does not speak HTTP")
        }
        var length: Int?
        var isChunked = false
        while true {
            let field = try line()
            if field.isEmpty { break }
            let sides = field.split(separator: ":", maxSplits: 1)
            guard sides.count == 2 else { continue }
            let value = sides[1].drop { $0 == " " }
            switch sides[0].lowercased() {
            case "content-length": length = Int(value)
            case "transfer-encoding": isChunked = value.lowercased() == "chunked"
            default: break
            }
        }
        func body(_ octets: ArraySlice<UInt8>) { take(status, octets) }
        if !isChunked {
            try pass(length ?? 0, to: body)
            return status
        }
        while true {
            guard let size = Int(try line().prefix { $0 != ";" }, radix: 16), size >= 0 else {
                throw .failed("the daemon's answer is broken")
            }
            if size == 0 { break }
            try pass(size, to: body)
            guard try line().isEmpty else { throw .failed("the daemon's answer is broken") }
        }
        while !(try line().isEmpty) {}
        return status
    }

    private func send(_ octets: some Sequence<UInt8>) throws(ControlError) {
        var rest = Array(octets)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw .failed("the daemon ended the connection") }
            rest = rest.dropFirst(count)
        }
    }

    /// Reads more; throws at the end.
    private func fill() throws(ControlError) {
        if used == buffer.count { (buffer, used) = ([], 0) }
        var count = 0
        let start = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: 64 << 10))
        repeat {
            count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress! + start, 64 << 10) }
        } while count < 0 && errno == EINTR
        let error = errno
        buffer.removeLast((64 << 10) - max(count, 0))
        if count < 0, error == EAGAIN { throw .failed("the daemon has not answered for \(Self.patience) seconds") }
        guard count > 0 else { throw .failed("the daemon ended the connection") }
    }

    private func line() throws(ControlError) -> String {
        while true {
            if let end = buffer[used...].firstIndex(of: UInt8(ascii: "\n")) {
                var line = buffer[used..<end]
                used = end + 1
                if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
                return String(decoding: line, as: UTF8.self)
            }
            try fill()
        }
    }

    private func pass(_ count: Int, to body: (ArraySlice<UInt8>) -> Void) throws(ControlError) {
        var left = count
        while left > 0 {
            if used == buffer.count { try fill() }
            let part = buffer[used...].prefix(left)
            body(part)
            used += part.count
            left -= part.count
        }
    }
}
