// The command line of sendmail as programs have written it for forty years, as a value. Read by SendmailCommand; what each
// option came to mean is in slimtad-sendmail(8).

import SlimtaMail

/// What a command line of sendmail, mailq or newaliases says.
struct SendmailOptions: Equatable {
    /// What is to be done.
    enum Mode: Equatable {
        /// `-bm`: one message from standard input.
        case deliver
        /// `-bs`: SMTP on standard input and output.
        case session
        /// `-bp`: list the queue.
        case list
        /// `-q`: try what is queued now.
        case flush
        /// `-bi`: make the aliases' database, of which there is none.
        case aliases
    }

    /// A command line that cannot be understood, or asks for what is not done, in words.
    struct Mistake: Error, Equatable {
        let text: String
    }

    var mode = Mode.deliver
    /// `-t`: recipients are those of the header too.
    var readsRecipients = false
    /// `-i`, `-oi`: a line of a dot is a line of the message.
    var ignoresDots = false
    /// `-f`, `-r`: as it was given; nil: not at all.
    var sender: String?
    /// `-F`; nil: what the system knows.
    var fullName: String?
    /// Recipients, each as it was given.
    var addresses: [String] = []
    /// `-oem`: a refusal is mailed to the caller as well.
    var mailsErrors = false
    /// `-v`: the replies and the id are shown.
    var isVerbose = false
    /// `--config`; nil: the usual file.
    var configuration: String?

    /// - Parameters:
    ///   - name: what the program was called as: mailq and newaliases are modes of their own.
    ///   - words: what is behind that.
    init(calledAs name: String, _ words: some Sequence<String>) throws(Mistake) {
        if name == "mailq" { mode = .list }
        if name == "newaliases" { mode = .aliases }
        var words = Array(words)[...]
        while let word = words.popFirst() {
            if word == "--" {
                addresses += words
                break
            }
            if word.hasPrefix("--") {
                try long(word, &words)
            } else if word.hasPrefix("-"), word != "-" {
                try short(word.dropFirst(), &words)
            } else {
                // Options may follow addresses: PHP puts its own behind what its user wrote.
                addresses.append(word)
            }
        }
    }

    private mutating func long(_ word: String, _ words: inout ArraySlice<String>) throws(Mistake) {
        if word == "--config", let path = words.popFirst() { return configuration = path }
        guard word.hasPrefix("--config="), word != "--config=" else {
            throw Mistake(
                text: "\"\(word)\" is no option of sendmail; there is --config FILE, and letters behind one \"-\"")
        }
        configuration = String(word.dropFirst("--config=".count))
    }

    /// Letters that are joined: the first one that takes an argument has the rest of the word for it, or the next word.
    private mutating func short(_ letters: Substring, _ words: inout ArraySlice<String>) throws(Mistake) {
        var letters = letters
        while let letter = letters.popFirst() {
            switch letter {
            case "t": readsRecipients = true
            case "i": ignoresDots = true
            case "v": isVerbose = true
            case "I": mode = .aliases
            // Relayed or submitted, metoo, no aliases, users: sendmail's own affair.
            case "G", "U", "m", "n": break
            case "q":
                try queue(letters)
                return
            // Debugging: nothing to be had, and nobody is to fail for it.
            case "d": return
            default:
                guard Self.takingArguments.contains(letter) else {
                    throw Mistake(text: "-\(letter) is no option that slimtad's sendmail knows")
                }
                guard let value = letters.isEmpty ? words.popFirst() : String(letters) else {
                    throw Mistake(text: "-\(letter) needs an argument")
                }
                return try set(letter, value)
            }
        }
    }

    /// Letters with an argument, joined or in the next word.
    private static let takingArguments: Set<Character> = [
        "A", "B", "C", "D", "F", "L", "N", "O", "R", "V", "X", "b", "e", "f", "h", "o", "p", "r",
    ]

    private mutating func set(_ letter: Character, _ value: String) throws(Mistake) {
        switch letter {
        case "f", "r": sender = value
        case "F": fullName = value
        case "b": try setMode(value)
        case "o": setOption(value)
        case "e": mailsErrors = Self.mailingWords.contains(value.prefix(1))
        case "B":
            guard ["7BIT", "8BITMIME"].contains(value.uppercased()) else {
                throw Mistake(text: "-B \(value): there are 7BIT and 8BITMIME")
            }
        case "N": try checkNotify(value)
        case "R":
            guard ["full", "hdrs"].contains(value.lowercased()) else {
                throw Mistake(text: "-R \(value): there are full and hdrs")
            }
        case "C": throw Mistake(text: "-C is for nobody; slimta.conf is named by --config")
        case "D": throw Mistake(text: "-D defines macros, of which there are none")
        // -A, -L, -O, -V, -X, -h, -p: queues, labels, settings, ids and hops of sendmail itself.
        default: break
        }
    }

    private mutating func setMode(_ value: String) throws(Mistake) {
        switch value {
        case "m": mode = .deliver
        case "s": mode = .session
        case "p": mode = .list
        case "i": mode = .aliases
        case "d", "D":
            throw Mistake(
                text: "-b\(value): the daemon is slimtad run, which the system starts: systemctl start slimtad")
        default: throw Mistake(text: "-b\(value) is not done; there are -bm, -bs, -bp and -bi")
        }
    }

    /// `-o`: of what can be set only dots and errors are ours; -odi, -odb and -odq all mean that it is queued first.
    private mutating func setOption(_ value: String) {
        switch value.first {
        case "i": ignoresDots = true
        case "e": mailsErrors = Self.mailingWords.contains(value.dropFirst().prefix(1))
        default: break
        }
    }

    /// -oem and -oee; with the others (p, q, w) standard error has to do.
    private static let mailingWords: Set<Substring> = ["m", "e"]

    /// An interval is taken for what it was written for: that mail does not stay. It says how often, and slimtad knows that.
    private mutating func queue(_ value: Substring) throws(Mistake) {
        guard value.allSatisfy({ $0.isASCII && ($0.isNumber || "smhdwf".contains($0)) }) else {
            throw Mistake(text: "-q\(value): parts of the queue are flushed with slimtad queue flush")
        }
        mode = .flush
    }

    /// NOTIFY of RFC 3461 section 4.1.
    private func checkNotify(_ value: String) throws(Mistake) {
        guard NotifyConditions(parsing: value) != nil else {
            throw Mistake(text: "-N \(value): there is never, or a list of success, failure and delay")
        }
    }
}
