// What the lines of Dovecot's authentication protocol mean, in both directions: text to values and back. DovecotMachine decides
// what follows from them.

internal import SlimtaMail
internal import SlimtaSASL

/// What Dovecot says.
enum DovecotMessage: Equatable, Sendable {
    case version(major: String, minor: String)
    /// It offers this mechanism to clients: the name, in upper case.
    case mechanism(String)
    /// The handshake is over.
    case done
    /// The mechanism's next challenge.
    case challenge(DovecotMachine.ID, [UInt8])
    /// The credentials are right.
    case success(DovecotMachine.ID, DovecotFields)
    case failure(DovecotMachine.ID, DovecotFields)
    /// What a client need not know: SPID, CUID, COOKIE (a secret), and what later versions add.
    case other

    /// Octets of a mechanism's name: RFC 4422 section 3.1 has 20, which Dovecot need not know.
    private static let longestName = 64

    init(_ line: DovecotLine) throws(DovecotFault) {
        let command = line.words[0]
        let words = line.words.dropFirst()
        let fault = DovecotFault.malformed(command: command)
        func id() throws(DovecotFault) -> DovecotMachine.ID {
            guard let word = words.first, word.utf8.allSatisfy(\.isASCIIDigit), let id = DovecotMachine.ID(word) else {
                throw fault
            }
            return id
        }
        switch command {
        case "VERSION":
            guard words.count >= 2 else { throw fault }
            self = .version(major: line.words[1], minor: line.words[2])
        case "MECH":
            guard let name = words.first, !name.isEmpty, name.utf8.count <= Self.longestName else { throw fault }
            // Not those that let anybody in, or that are between Dovecot's own programs. "plaintext" is for the edge, which
            // has no AUTH without TLS, whatever Dovecot says.
            let isForClients = Set(words.dropFirst()).isDisjoint(with: ["anonymous", "private"])
            self = isForClients ? .mechanism(name.uppercased()) : .other
        case "DONE": self = .done
        case "CONT":
            guard words.count >= 2, let challenge = Base64.decode(line.words[2].utf8) else { throw fault }
            self = .challenge(try id(), challenge)
        case "OK": self = .success(try id(), DovecotFields(words.dropFirst()))
        case "FAIL": self = .failure(try id(), DovecotFields(words.dropFirst()))
        default: self = .other
        }
    }
}

/// What stands behind the number in OK and FAIL: names, with a value or without.
struct DovecotFields: Equatable, Sendable {
    private let values: [String: String]

    init(_ words: some Sequence<String>) {
        values = words.reduce(into: [:]) { values, word in
            let end = word.firstIndex(of: "=") ?? word.endIndex
            let name = String(word[..<end])
            // The first of several, as Dovecot's own programs have it.
            values[name] = values[name] ?? String(word[end...].dropFirst())
        }
    }

    /// A field's value, empty if it has none; nil: there is no such field.
    subscript(_ name: String) -> String? { values[name] }

    func contains(_ name: String) -> Bool { values[name] != nil }
}

/// What comes of a request or a response.
enum DovecotAnswer: Equatable, Sendable {
    /// The client is to answer this.
    case challenge([UInt8])
    /// The client is this user: the name is Dovecot's, who may have changed it.
    case right(login: String, senders: [String]?)
    case wrong
    /// The password was right, and the user may not log in all the same: the client is told why.
    case refused(String)
    /// It could not be found out: the log is told why.
    case unavailable(String)

    /// What OK means.
    init(success fields: DovecotFields) {
        if fields.contains("nologin") {
            // The reason is the operator's, of the passdb.
            let reason = fields["reason"].flatMap { $0.isEmpty ? nil : $0.visible.cut(toOctets: 200) }
            self = .refused(reason ?? "This account may not log in")
        } else if fields.contains("auth_user") {
            self = .refused("Logging in for somebody else is not possible here")
        } else if let user = fields["user"].flatMap({ try? LoginName.normalized($0.utf8) }),
            !user.unicodeScalars.contains("\u{FFFD}")
        {
            self = .right(
                login: user,
                senders: fields["senders"].map { senders in
                    senders.split(separator: ",").map { String($0.drop { $0 == " " }) }.filter { !$0.isEmpty }
                })
        } else {
            self = .unavailable("Dovecot says that it is right, and names no user that there can be")
        }
    }

    /// What FAIL means: the flags of Dovecot up to 2.2 and the codes of later ones.
    init(failure fields: DovecotFields) {
        let isTemporary = fields.contains("temp") || fields["code"] == "temp_fail"
        let reason = fields["reason"].map { ": " + $0.visible.cut(toOctets: 200) } ?? ""
        self = isTemporary ? .unavailable("Dovecot cannot say now\(reason)") : .wrong
    }
}

/// A question: the beginning of an exchange. Never printed with its response.
struct DovecotRequest: Equatable, Sendable {
    typealias Parameter = (name: String, value: String?)

    /// Its name.
    var mechanism: String
    /// What Dovecot is told of the connection: names with a value or, where it is nil, without. `service` is not among them.
    var parameters: [Parameter]
    /// nil: none; it may be empty.
    var initialResponse: SecretOctets?

    static func == (a: DovecotRequest, b: DovecotRequest) -> Bool {
        a.mechanism == b.mechanism && a.initialResponse == b.initialResponse
            && a.parameters.elementsEqual(b.parameters) { $0.name == $1.name && $0.value == $1.value }
    }

    /// The line with its LF; nil: it would be longer than Dovecot takes.
    func line(_ id: DovecotMachine.ID) -> SecretOctets? {
        var line = Array("AUTH\t\(id)\t".utf8) + DovecotEscape.encoded(mechanism.utf8) + "\tservice=smtp".utf8
        defer { line.wipe() }
        for (name, value) in parameters {
            line += "\t\(name)".utf8
            if let value { line += "=".utf8 + DovecotEscape.encoded(value.utf8) }
        }
        if let initialResponse {
            // It has to be the last. "=" is the empty one: with nothing behind the name there would be none.
            line += Array("\tresp=".utf8) + (initialResponse.isEmpty ? Array("=".utf8) : initialResponse.base64)
        }
        return Self.ended(&line)
    }

    /// A client's response to a challenge, as a line; nil: too long.
    static func response(_ id: DovecotMachine.ID, _ response: SecretOctets) -> SecretOctets? {
        var line = Array("CONT\t\(id)\t".utf8) + response.base64
        defer { line.wipe() }
        return ended(&line)
    }

    private static func ended(_ line: inout [UInt8]) -> SecretOctets? {
        line.append(UInt8(ascii: "\n"))
        return line.count <= DovecotLineReader.longest ? SecretOctets(line) : nil
    }
}

extension SecretOctets {
    /// In base64, for its user to wipe.
    fileprivate var base64: [UInt8] { Array(Base64.encode(self).utf8) }
}
