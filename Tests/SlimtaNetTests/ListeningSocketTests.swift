// Sockets beside each other: what overlaps can be bound while both are meant to be there, and at no other time.

import Glibc
import Testing

@testable import SlimtaNet

@Suite(.serialized) struct ListeningSocketTests {
    /// A port that was free on all addresses a moment ago.
    private func freePort() throws -> Int {
        let sockets = try ListeningSocket.tcp(host: "::", port: 0)
        defer { for socket in sockets { socket.close() } }
        return try #require(sockets[0].port)
    }

    /// Whether something accepts connections to 127.0.0.1.
    private func isOpen(_ port: Int) throws -> Bool {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        try #require(getaddrinfo("127.0.0.1", "\(port)", &hints, &found) == 0)
        defer { freeaddrinfo(found) }
        let target = try #require(found).pointee
        let client = socket(target.ai_family, target.ai_socktype, 0)
        defer { close(client) }
        return connect(client, target.ai_addr, target.ai_addrlen) == 0
    }

    @Test(arguments: [
        ("127.0.0.1", "::"), ("::", "127.0.0.1"), ("::", "0.0.0.0"), ("0.0.0.0", "::"), ("::1", "::"),
        ("0.0.0.0", "127.0.0.1"),
    ])
    func overlappingAddresses(old: String, new: String) throws {
        let port = try freePort()
        let first = try ListeningSocket.tcp(host: old, port: port)
        // Not unless it is said.
        #expect(throws: ListeningSocket.BindError.self) { try ListeningSocket.tcp(host: new, port: port) }
        let second = try ListeningSocket.overlapping(first) { () throws(ListeningSocket.BindError) in
            try ListeningSocket.tcp(host: new, port: port, isOverlapping: true)
        }
        // And not afterwards: a second slimtad is told that the port is taken.
        #expect(throws: ListeningSocket.BindError.self) { try ListeningSocket.tcp(host: new, port: port) }
        for socket in first { socket.close() }
        try #expect(isOpen(port) == (new != "::1"))
        for socket in second { socket.close() }
        try #expect(!isOpen(port))
    }

    /// What is at the socket's path by then must be a socket, and have no second name.
    @Test func onlyASocketIsGivenAway() throws {
        let path = "/tmp/slimtad-socket-\(getpid())"
        let socket = try ListeningSocket.unix(path: path)
        defer { socket.close() }
        try socket.setOwner(uid: getuid(), gid: getgid(), path: path)
        #expect(link(path, path + ".second") == 0)
        #expect(throws: ListeningSocket.BindError(address: "unix:\(path)", errorNumber: EPERM)) {
            try socket.setOwner(uid: getuid(), gid: getgid(), path: path)
        }
        unlink(path)
        #expect(symlink(path + ".second", path) == 0)
        #expect(throws: ListeningSocket.BindError.self) {
            try socket.setOwner(uid: getuid(), gid: getgid(), path: path)
        }
        unlink(path)
        close(creat(path, 0o600))
        #expect(throws: ListeningSocket.BindError(address: "unix:\(path)", errorNumber: EPERM)) {
            try socket.setOwner(uid: getuid(), gid: getgid(), path: path)
        }
        for name in [path, path + ".second"] { unlink(name) }
    }

    /// Only the socket of somebody who is gone is replaced; else what is there stays.
    @Test func whatIsAtThePath() throws {
        let path = "/tmp/slimtad-there-\(getpid())"
        func throwing(_ number: CInt, _ what: (String) throws -> Void) {
            #expect(throws: ListeningSocket.BindError(address: "unix:\(path)", errorNumber: number)) { try what(path) }
        }
        try ListeningSocket.look(at: path)
        close(creat(path, 0o600))
        throwing(ENOTSOCK) { try ListeningSocket.look(at: $0) }
        throwing(ENOTSOCK) { try ListeningSocket.unix(path: $0).close() }
        #expect(access(path, F_OK) == 0)
        unlink(path)
        let socket = try ListeningSocket.unix(path: path)
        throwing(EADDRINUSE) { try ListeningSocket.look(at: $0) }
        throwing(EADDRINUSE) { try ListeningSocket.unix(path: $0).close() }
        socket.close()
        try ListeningSocket.look(at: path)
        try ListeningSocket.unix(path: path).close()
        unlink(path)
    }

    /// Every user, or owner and group: as it is made, and as it is changed.
    @Test func whoMayConnect() throws {
        func mode(_ path: String) -> mode_t {
            var status = stat()
            return lstat(path, &status) == 0 ? status.st_mode & 0o777 : 0
        }
        let path = "/tmp/slimtad-socket-mode-\(getpid())"
        for isForAll in [false, true] {
            let socket = try ListeningSocket.unix(path: path, isForAll: isForAll)
            defer { socket.close() }
            #expect(mode(path) == (isForAll ? 0o666 : 0o660))
            try ListeningSocket.setMode(isForAll: !isForAll, path: path)
            #expect(mode(path) == (isForAll ? 0o660 : 0o666))
            unlink(path)
        }
        close(creat(path, 0o600))
        #expect(throws: ListeningSocket.BindError(address: "unix:\(path)", errorNumber: EPERM)) {
            try ListeningSocket.setMode(isForAll: true, path: path)
        }
        #expect(mode(path) == 0o600)
        unlink(path)
        #expect(throws: ListeningSocket.BindError.self) { try ListeningSocket.setMode(isForAll: true, path: path) }
    }

    @Test func duplicateListensOn() throws {
        let port = try freePort()
        let socket = try ListeningSocket.tcp(host: "127.0.0.1", port: port)[0]
        let copy = try socket.duplicate()
        #expect(copy.descriptor != socket.descriptor && copy.isListening && copy.port == port)
        socket.close()
        try #expect(isOpen(port))
        copy.close()
        try #expect(!isOpen(port))
    }

    @Test func textsNameWhatHelps() {
        func text(_ address: String, _ number: Int32) -> String {
            ListeningSocket.BindError(address: address, errorNumber: number).description
        }
        #expect(text("[::]:587", EACCES).contains("CAP_NET_BIND_SERVICE"))
        #expect(text("[::]:587", EPERM).contains("SocketBindAllow="))
        #expect(text("unix:/etc/x", EACCES).contains("folder") && !text("unix:/etc/x", EACCES).contains("ports"))
        #expect(text("unix:/etc/x", EROFS).contains("folder"))
    }
}
