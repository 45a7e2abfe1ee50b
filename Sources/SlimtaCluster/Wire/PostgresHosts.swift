// The servers that a connection string names, one address after the other. libpq goes through a list itself, but stays with
// a server that says nothing as long as it is let: only whoever waits can give each its share of the time.

import CPostgres
import Glibc

/// The words of a connection string, and the hosts in it.
struct PostgresHosts {
    /// All words but those that say where.
    private var words: [String: String]
    private let hosts: [Host]
    /// How long the connection to one address may take.
    private let longest: Duration

    struct Host {
        var name: String?
        var address: String?
        var port: String?

        /// As errors have it.
        var description: String {
            let shown = name ?? address ?? "the default host"
            return port.map { "\(shown), port \($0)" } ?? shown
        }

        /// The words that say where.
        var words: [String: String] {
            var words: [String: String] = [:]
            words["host"] = name
            words["hostaddr"] = address
            words["port"] = port
            return words
        }

        /// Itself for each address that its name has. Waits for name servers, as long as resolv.conf lets it.
        func resolved() throws(PostgresError) -> [Host] {
            // A path, an abstract socket, an address, or what libpq takes where nothing is said.
            guard let name, address == nil, let first = name.first, first != "/", first != "@" else { return [self] }
            var hints = addrinfo()
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            var list: UnsafeMutablePointer<addrinfo>?
            let problem = getaddrinfo(name, nil, &hints, &list)
            guard problem == 0 else {
                throw .unreachable(PostgresError.line("\(name): \(String(cString: gai_strerror(problem)))"))
            }
            defer { freeaddrinfo(list) }
            var found: [Host] = []
            var entry = list
            while let this = entry {
                var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
                if getnameinfo(
                    this.pointee.ai_addr, this.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
                    == 0
                {
                    let address = text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
                    found.append(Host(name: name, address: address, port: port))
                }
                entry = this.pointee.ai_next
            }
            return found
        }
    }

    /// Reads the connection string; libpq must be loaded.
    init(_ options: PostgresOptions) throws(PostgresError) {
        words = try Self.words(options.connection)
        let names = Self.list(words.removeValue(forKey: "host"))
        let addresses = Self.list(words.removeValue(forKey: "hostaddr"))
        let ports = Self.list(words.removeValue(forKey: "port"))
        let count = max(names.count, addresses.count, 1)
        guard [0, count].contains(names.count), [0, count].contains(addresses.count),
            [0, 1, count].contains(ports.count)
        else { throw .unreachable("host, hostaddr and port have lists of different lengths") }
        hosts = (0..<count).map { number in
            Host(
                name: Self.entry(names, number), address: Self.entry(addresses, number),
                port: Self.entry(ports, ports.count == 1 ? 0 : number))
        }
        // Zero means without end there, which nothing here is.
        let limit = words["connect_timeout"].flatMap { Int($0) } ?? 0
        longest = limit > 0 ? min(options.connectTimeout, .seconds(limit)) : options.connectTimeout
        words["client_encoding"] = "UTF8"
        words["fallback_application_name"] = options.applicationName
        words["password"] = options.password ?? words["password"]
        words["target_session_attrs"] = words["target_session_attrs"] ?? "read-write"
    }

    /// What `accept` makes of the connection to the first address that will have it, and that it does not refuse; it is told
    /// the place of the host in the list. Each gets an equal share of what is left of the time.
    /// - Parameter first: which host is asked first, and then those behind it, round the list.
    func connect<Value>(
        from first: Int = 0, by deadline: Deadline,
        _ accept: (PostgresSocket, Int, Deadline) throws(PostgresError) -> Value
    ) throws(PostgresError) -> Value {
        var problems: [String] = []
        for number in hosts.indices where !deadline.hasPassed {
            let index = (first + number) % hosts.count
            let host = hosts[index]
            do throws(PostgresError) {
                let addresses = try host.resolved()
                for (place, address) in addresses.enumerated() {
                    let share = deadline.remaining / (addresses.count - place + hosts.count - number - 1)
                    let end = deadline.orAfter(min(share, longest))
                    do throws(PostgresError) {
                        return try accept(
                            PostgresSocket(words.merging(address.words) { $1 }, to: address.description, by: end),
                            index, end)
                    } catch { problems.append(error.text) }
                }
            } catch { problems.append(error.text) }
        }
        if problems.isEmpty { problems.append("no time is left") }
        throw .unreachable(PostgresError.line(problems.joined(separator: "; ")))
    }

    private static func list(_ text: String?) -> [Substring] {
        text.map { $0.split(separator: ",", omittingEmptySubsequences: false) } ?? []
    }

    private static func entry(_ list: [Substring], _ number: Int) -> String? {
        list.indices.contains(number) && !list[number].isEmpty ? String(list[number]) : nil
    }

    private static func words(_ connection: String) throws(PostgresError) -> [String: String] {
        var words: [String: String] = [:]
        var problem = [CChar](repeating: 0, count: 512)
        let isRead = withUnsafeMutablePointer(to: &words) { words in
            cpq_parse(
                connection, words,
                { context, keyword, value in
                    guard let keyword, let value else { return }
                    context?.assumingMemoryBound(to: [String: String].self)
                        .pointee[String(cString: keyword)] = String(cString: value)
                }, &problem, problem.count)
        }
        guard isRead else {
            throw .unreachable(problem.withUnsafeBufferPointer { PostgresError.line($0.baseAddress) })
        }
        return words
    }
}
