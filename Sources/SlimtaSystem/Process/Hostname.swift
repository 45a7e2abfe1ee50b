// What the machine is called, where slimta.conf does not say it. Called once at start: it may ask the DNS.

import Glibc

/// The machine's name.
package enum Hostname {
    /// The fully qualified domain name as far as the system knows it, else the plain host name.
    package static func fullyQualified() -> String {
        let name = plain()
        if isQualified(name) { return name }
        if let canonical = canonicalName(of: name), isQualified(canonical) { return canonical }
        return name
    }

    /// What the machine calls itself, without asking anybody.
    package static func plain() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        let name = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return name.isEmpty ? "localhost" : name
    }

    /// Tells the machine from all others, whatever they are called (machine-id(5)); nil: it has no such id.
    package static func machineID() -> String? {
        let path = "/etc/machine-id"
        guard let octets = try? SecureFile.read(path, maximum: 256, mustNotBeReadableByOthers: false) else {
            return nil
        }
        let line = String(decoding: octets.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        return line.isEmpty ? nil : line
    }

    private static func canonicalName(of name: String) -> String? {
        var hints = addrinfo()
        hints.ai_flags = AI_CANONNAME
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0, let list else { return nil }
        defer { freeaddrinfo(list) }
        return list.pointee.ai_canonname.map { String(cString: $0) }
    }

    /// "localhost.localdomain" has a dot, and names no machine.
    private static func isQualified(_ name: String) -> Bool {
        name.utf8.dropLast().dropFirst().contains(UInt8(ascii: ".")) && !name.utf8.starts(with: "localhost.".utf8)
    }
}
