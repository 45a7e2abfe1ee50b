// The owner of a libunbound context: settings, questions out, answers in. ResolverLoop uses it, on its thread alone.

import CUnbound

/// A `ub_ctx` with a worker thread of its own, which libunbound starts at the first question.
final class UnboundContext {
    /// The record types that are asked for, by their numbers in the protocol.
    enum RecordType: CInt {
        case a = 1
        case cname = 5
        case soa = 6
        case ptr = 12
        case mx = 15
        case txt = 16
        case aaaa = 28
        case tlsa = 52
    }

    /// Domains that are not in the root zone and are used inside of networks nevertheless: reserved ones (RFC 6761
    /// section 6.2, RFC 6762 section 3, RFC 8375 section 3, and "internal") and those never delegated (RFC 6762 appendix
    /// G). The signed root zone denies them, so that validation would call a local name server's answers forged.
    private static let privateDomains = [
        "test", "local", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa",
    ]

    private let context: OpaquePointer

    /// Answers come from `servers`, or from those of /etc/resolv.conf if that is empty. They are validated from the
    /// keys in `trustAnchorFile` on; nil: not validated. No more than `sockets` are open to servers at a time.
    init(servers: [(address: String, port: Int)], trustAnchorFile: String?, sockets: Int) throws(DNSError) {
        guard let context = ub_ctx_create() else { throw .temporary("libunbound: no context") }
        self.context = context
        // libunbound would write to standard error.
        ub_ctx_debugout(context, nil)
        try Self.check(ub_ctx_async(context, 1), "threads")
        for (option, value) in Self.options { try set(option, value) }
        // A library's default is for one question at a time: this is for hundreds.
        let tcp = max(1, min(16, sockets / 4))
        try set("outgoing-num-tcp:", "\(tcp)")
        try set("outgoing-range:", "\(max(1, sockets - tcp))")
        for domain in Self.privateDomains { try set("domain-insecure:", domain) }
        for server in servers {
            try Self.check(ub_ctx_set_fwd(context, "\(server.address)@\(server.port)"), "server \(server.address)")
        }
        if servers.isEmpty {
            let error = ub_ctx_resolvconf(context, nil)
            if error == UB_READFILE.rawValue {
                // As resolv.conf(5) says of a file that is not there.
                try Self.check(ub_ctx_set_fwd(context, "127.0.0.1"), "server 127.0.0.1")
            } else {
                try Self.check(error, "/etc/resolv.conf")
            }
        }
        if let trustAnchorFile { try Self.check(ub_ctx_add_ta_file(context, trustAnchorFile), "trust anchor") }
        // What libunbound knows better than any server: these are not in the way of a local one. It is the first call
        // that makes use of all settings, a file of trust anchors included.
        for domain in Self.privateDomains { try Self.check(ub_ctx_zone_remove(context, domain), "settings") }
    }

    /// Ends its thread; questions without an answer yet get none.
    deinit { ub_ctx_delete(context) }

    private static let options = [
        ("do-not-query-localhost:", "no"),
        // Who has a private address (RFC 1918, RFC 4193) is known to the servers of its network: libunbound would deny it
        // without asking them (RFC 6303), and the signed root denies it too.
        ("unblock-lan-zones:", "yes"),
        ("insecure-lan-zones:", "yes"),
        ("num-queries-per-thread:", "1024"),
        // A server that was gone for a while is noticed when it is back. Else it is left alone for minutes.
        ("infra-host-ttl:", "60"),
        ("infra-keep-probing:", "yes"),
        ("msg-cache-size:", "4m"),
        ("rrset-cache-size:", "8m"),
    ]

    private func set(_ option: String, _ value: String) throws(DNSError) {
        try Self.check(ub_ctx_set_option(context, option, value), "\(option) \(value)")
    }

    private static func check(_ error: CInt, _ what: String) throws(DNSError) {
        guard error == UB_NOERROR.rawValue else { throw Self.error(error, what) }
    }

    private static func error(_ error: CInt, _ what: String) -> DNSError {
        .temporary("libunbound: \(what): \(String(cString: ub_strerror(error)))")
    }

    // MARK: Questions and answers

    /// Readable when there are answers to ``process()``.
    var fileDescriptor: CInt { ub_fd(context) }

    /// Asks. `callback` is called with `user` by a later ``process()``, unless the question is cancelled before.
    func resolve(
        _ name: String, _ type: RecordType, user: UnsafeMutableRawPointer, callback: ub_callback_type
    ) throws(DNSError) -> CInt {
        var id: CInt = 0
        let internet: CInt = 1
        try Self.check(ub_resolve_async(context, name, type.rawValue, internet, user, callback, &id), "query")
        return id
    }

    /// Withdraws a question: its callback is not called any more.
    func cancel(_ id: CInt) {
        // "No such id" cannot be: what has been answered is not in the loop's table.
        _ = ub_cancel(context, id)
    }

    /// Calls the callbacks of what was answered.
    func process() throws(DNSError) { try Self.check(ub_process(context), "answers") }

    /// Takes over what a callback got.
    static func answer(_ error: CInt, _ result: UnsafeMutablePointer<ub_result>?) -> Result<RawAnswer, DNSError> {
        guard error == UB_NOERROR.rawValue, let result else { return .failure(Self.error(error, "query")) }
        defer { ub_resolve_free(result) }
        let answer = result.pointee
        if answer.bogus != 0 {
            return .failure(.bogus(answer.why_bogus.map { String(cString: $0) } ?? "validation failure"))
        }
        if answer.nxdomain != 0 { return .failure(.noSuchName) }
        switch answer.rcode {
        case 0: break
        case 2: return .failure(.temporary("SERVFAIL"))
        case 5: return .failure(.temporary("REFUSED"))
        case let code: return .failure(.temporary("DNS response code \(code)"))
        }
        var records: [[UInt8]] = []
        if let data = answer.data, let lengths = answer.len {
            var index = 0
            while let record = data[index] {
                let length = Int(lengths[index])
                records.append(Array(UnsafeRawBufferPointer(start: record, count: length)))
                index += 1
            }
        }
        return .success(
            RawAnswer(
                records: records, isSecure: answer.secure != 0, ttl: UInt32(max(answer.ttl, 0)),
                canonicalName: answer.canonname.map { String(cString: $0) }))
    }
}

/// An answer as libunbound gives it.
struct RawAnswer: Sendable {
    /// The RDATA of each record, in wire format.
    var records: [[UInt8]]
    var isSecure: Bool
    var ttl: UInt32
    /// In presentation format, with question marks for what is not printable.
    var canonicalName: String?
}
