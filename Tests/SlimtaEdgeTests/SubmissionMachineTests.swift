// The stages of a message that comes as a whole: in which order somebody is asked, what each answer leads to, and who may
// send at all.

import SlimtaMail
import SlimtaSASL
import SlimtaSMTP
import Testing

@testable import SlimtaEdge

@Suite struct SubmissionMachineTests {
    typealias Step = SubmissionMachine.Step
    typealias Question = SMTPServerMachine.Question

    static let allStages: SMTPStages = [.connect, .hello, .login, .mail, .recipient, .data, .message]

    private func machine(
        _ stages: SMTPStages = allStages, isTrusted: Bool = true,
        authentication: SMTPServerConfiguration.Authentication = .required, recipients: Int = 3
    ) -> SubmissionMachine {
        SubmissionMachine(
            TransactionRules(authentication: authentication, messageSize: 1000, recipients: recipients),
            stages: stages, isTrusted: isTrusted, clientName: "c", protocolWord: "HTTP", tls: nil)
    }

    private func request(
        _ recipients: [String] = ["b@y.org"], sender: String? = "a@x.org", size: Int? = nil, needsAll: Bool = true
    ) throws -> SubmissionRequest {
        SubmissionRequest(
            sender: sender.flatMap { Mailbox(parsing: $0) },
            recipients: try recipients.map { try #require(Mailbox(parsing: $0)) }, size: size, needsAll: needsAll)
    }

    /// The questions of an event, each answered by `answer`, and what they have come to.
    private func run(
        _ machine: inout SubmissionMachine, _ event: (inout SubmissionMachine) -> Step,
        _ answer: (Question) -> SMTPServerMachine.Answer = { _ in .goOn }
    ) -> (asked: [String], SubmissionMachine.Outcome) {
        var asked: [String] = []
        var step = event(&machine)
        while case .ask(let question) = step {
            asked.append(name(question))
            if case .end = question, case .goOn = answer(question) {
                step = machine.answered(.reply(Reply(250, .init(2, 6, 0), "stored")))
            } else {
                step = machine.answered(answer(question))
            }
        }
        guard case .done(let outcome) = step else { preconditionFailure() }
        return (asked, outcome)
    }

    private static let response = SecretOctets(Array("\0U\0p".utf8))

    private func name(_ question: Question) -> String {
        switch question {
        case .connect: "connect"
        case .hello(let name, _): "hello \(name)"
        case .startTLS: "starttls"
        case .authentication(.begin(let mechanism, let response, _)): "\(mechanism) \(response?.count ?? 0)"
        case .authentication: "authentication"
        case .login(let user): "login \(user.login)"
        case .mail(let mail): "mail \(mail.sender?.text ?? "<>")"
        case .room: "room"
        case .recipient(let recipient, _): "rcpt \(recipient)"
        case .data: "data"
        case .message: "message"
        case .end(let submission): "end \(submission.recipients.map(\.text).joined(separator: ","))"
        }
    }

    @Test func theStagesInTheirOrder() throws {
        var machine = machine()
        let login = run(&machine, { $0.authenticate(.plain, Self.response) }) {
            if case .authentication = $0 { .authentication(.right(AuthenticatedUser(login: "u"))) } else { .goOn }
        }
        #expect(login.asked == ["connect", "hello c", "plain 4", "login u"])
        #expect(login.1 == .goOn)
        let request = try request(["b@y.org", "c@z.org", "b@Y.org"])
        let opening = run(&machine, { $0.begin(request) })
        #expect(opening.asked == ["mail a@x.org", "room", "rcpt b@y.org", "rcpt c@z.org", "rcpt b@Y.org", "data"])
        #expect(opening.1 == .goOn)
        #expect(machine.verdicts == [nil, nil, nil])
        #expect(machine.session.login == "u")
        #expect(machine.session.mechanism == "PLAIN")
        let end = run(&machine, { $0.end(hasEightBit: false) })
        #expect(end.asked == ["message", "end b@y.org,c@z.org"])
        #expect(end.1 == .stored(Reply(250, .init(2, 6, 0), "stored")))
        #expect(machine.takeRefusals().isEmpty)
    }

    @Test func whereNobodyAsksNothingIsAsked() throws {
        var machine = machine([])
        let request = try request()
        #expect(run(&machine, { $0.begin(request) }).asked == ["room"])
        #expect(run(&machine, { $0.end(hasEightBit: true) }).asked == ["end b@y.org"])
    }

    /// Whoever is to be believed is asked about as a login is.
    @Test func identified() throws {
        var machine = machine(isTrusted: false)
        let user = AuthenticatedUser(login: "root", senders: ["root@x.org"])
        #expect(run(&machine, { $0.identified(as: user) }).asked == ["connect", "hello c", "login root"])
        #expect(machine.session.mechanism == "EXTERNAL")
        let other = try request()
        let refusal = Reply(553, .init(5, 7, 1), "<a@x.org> is not a sender that login root may use")
        #expect(run(&machine, { $0.begin(other) }).1 == .forbidden(refusal))
        let refusals = machine.takeRefusals()
        #expect(refusals.map(\.reply) == [refusal] && refusals.map(\.allowed) == ["root@x.org"])
        let own = try request(sender: "root@x.org")
        #expect(run(&machine, { $0.begin(own) }).1 == .goOn)
    }

    @Test func aRefusalAtEachStage() throws {
        let refusal = Reply(550, .init(5, 7, 1), "no")
        for refused in ["connect", "hello c", "mail a@x.org", "room", "rcpt b@y.org", "data"] {
            var machine = machine()
            let request = try request()
            let came = run(&machine, { $0.begin(request) }) { name($0) == refused ? .reply(refusal) : .goOn }
            #expect(came.1 == .refused(refusal), "\(refused)")
            #expect(came.asked.last == refused)
            #expect(machine.takeRefusals().count == 1)
        }
        for refused in ["message", "end b@y.org"] {
            var machine = machine()
            let request = try request()
            _ = run(&machine, { $0.begin(request) })
            let came = run(&machine, { $0.end(hasEightBit: false) }) { name($0) == refused ? .reply(refusal) : .goOn }
            #expect(came.1 == .refused(refusal))
        }
    }

    /// An answer that does not fit lets nothing through.
    @Test func answersThatDoNotFit() throws {
        for wrong in [SMTPServerMachine.Answer.authentication(.wrong), .reply(Reply(250, nil, "Ok"))] {
            var machine = machine()
            let request = try request()
            #expect(run(&machine, { $0.begin(request) }) { _ in wrong }.1 == .refused(.unanswered))
        }
        var machine = machine([])
        #expect(
            run(&machine, { $0.authenticate(.plain, Self.response) }).1 == .refused(.unanswered))
    }

    @Test(arguments: [
        (SMTPServerMachine.AuthenticationResult.wrong, Reply.credentialsInvalid), (.malformed, .credentialsInvalid),
        (.challenge([1]), .credentialsInvalid), (.unavailable, .credentialsUnchecked),
        (.undecided, .credentialsUnchecked), (.turnedAway, .tooManyFailedLogins),
        (.refused("Password expired"), Reply(535, .init(5, 7, 8), "Password expired")),
    ])
    func passwordsThatAreNotRight(_ result: SMTPServerMachine.AuthenticationResult, _ reply: Reply) {
        var machine = machine([])
        let came = run(&machine, { $0.authenticate(.plain, Self.response) }) { _ in
            .authentication(result)
        }
        #expect(came.1 == .refused(reply))
        #expect(machine.session.login == nil)
        // It has a line of its own.
        #expect(machine.takeRefusals().isEmpty)
    }

    @Test func whoMaySendWithoutLogin() throws {
        let request = try request()
        for (authentication, code) in [(SMTPServerConfiguration.Authentication.required, 530), (.optional, 530)] {
            var machine = machine(isTrusted: false, authentication: authentication)
            #expect(
                run(&machine, { $0.unidentified() }).1 == .refused(.unknownClient(authentication, mayStartTLS: false)))
            guard case .refused(let reply) = run(&machine, { $0.begin(request) }).1 else {
                Issue.record("not refused")
                continue
            }
            #expect(Int(reply.code) == code)
        }
        var closed = machine(isTrusted: false, authentication: .none)
        let refusal = Reply.unknownClient(.none, mayStartTLS: false)
        #expect(run(&closed, { $0.unidentified() }).1 == .forbidden(refusal))
        #expect(run(&closed, { $0.begin(request) }).1 == .forbidden(refusal))
        var trusted = machine(isTrusted: true, authentication: .none)
        #expect(run(&trusted, { $0.unidentified() }).1 == .goOn)
        #expect(run(&trusted, { $0.begin(request) }).1 == .goOn)
    }

    @Test func oneRecipientOrAll() throws {
        let refusal = Reply(450, .init(4, 7, 1), "later")
        let names = ["b@y.org", "c@z.org"]
        for needsAll in [true, false] {
            var machine = machine()
            let request = try request(names, needsAll: needsAll)
            let came = run(&machine, { $0.begin(request) }) { name($0) == "rcpt b@y.org" ? .reply(refusal) : .goOn }
            #expect(came.1 == (needsAll ? .refused(refusal) : .goOn))
            #expect(machine.verdicts == (needsAll ? [refusal] : [refusal, nil]))
        }
        var machine = machine()
        let request = try request(names, needsAll: false)
        let came = run(&machine, { $0.begin(request) }) { name($0).hasPrefix("rcpt") ? .reply(refusal) : .goOn }
        #expect(came.1 == .noRecipients)
        #expect(machine.verdicts == [refusal, refusal])
        #expect(!came.asked.contains("data"))
        // 421 is about more than the recipient.
        var ended = self.machine()
        let last = Reply(421, .init(4, 3, 2), "bye")
        #expect(
            run(&ended, { $0.begin(request) }) { name($0).hasPrefix("rcpt") ? .reply(last) : .goOn }.1 == .refused(last)
        )
    }

    @Test func whatSettingsRefuse() throws {
        var large = machine()
        let tooLarge = try request(size: 1001)
        guard case .refused(let size) = run(&large, { $0.begin(tooLarge) }).1 else {
            Issue.record("not refused")
            return
        }
        #expect(size.code == 552)
        var many = machine()
        let tooMany = try request(["a@y.org", "b@y.org", "c@y.org", "d@y.org"])
        guard case .refused(let count) = run(&many, { $0.begin(tooMany) }).1 else {
            Issue.record("not refused")
            return
        }
        // Another time it has as many: who refuses all for that is to refuse it for good.
        #expect(count == Reply(554, .init(5, 5, 3), "Too many recipients, 3 at most"))
        let some = try request(["a@y.org", "b@y.org", "c@y.org", "d@y.org"], needsAll: false)
        #expect(run(&many, { $0.begin(some) }).1 == .goOn)
        #expect(many.verdicts.compactMap(\.self).map(\.code) == [452])
        // An address that needs it makes the message one of SMTPUTF8.
        var international = machine()
        let address = try request(["ü@y.org"])
        #expect(address.smtpUTF8)
        #expect(run(&international, { $0.begin(address) }).1 == .goOn)
    }
}
