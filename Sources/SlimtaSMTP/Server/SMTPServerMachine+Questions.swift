// How SMTPServerMachine asks and goes on: one way for all questions, whether somebody is asked or the machine may go on by
// itself.

package import NIOCore
internal import SlimtaMail
internal import SlimtaSASL

extension SMTPServerMachine {
    /// What has been said so far, for whoever answers.
    package var session: Session {
        Session(
            clientName: clientName, isExtended: isExtended, tls: tls, login: user?.login,
            mechanism: user == nil ? nil : mechanism?.rawValue, mail: transaction?.mail,
            recipients: transaction?.recipients ?? [], transactionNumber: transactionNumber)
    }

    /// Asks where somebody is to be asked, else goes on at once.
    mutating func ask(_ question: Question, into output: inout ByteBuffer) {
        if let stage = question.stage, !configuration.stages.contains(stage) {
            goOn(from: question, into: &output)
        } else {
            enter(.asking(question, isOpen: false))
        }
    }

    /// The answer to the open question. Nothing happens if there is none: the session has ended, or has its answer.
    package mutating func answered(_ answer: Answer, into output: inout ByteBuffer) {
        guard case .asking(let question, isOpen: true) = phase else { return }
        enter(.command)
        switch (question, answer) {
        case (.authentication(let step), .authentication(let result)):
            authenticationAnswered(step, result, into: &output)
        case (.end, .reply(let reply)) where reply.isPositive:
            errors = 0
            write(reply, into: &output)
        case (.authentication, .goOn), (.end, .goOn), (_, .authentication):
            refuse(question, with: .unanswered, into: &output)
        case (_, .goOn): goOn(from: question, into: &output)
        case (_, .reply(let reply)):
            refuse(question, with: reply.code >= 400 ? reply : .unanswered, into: &output)
        }
    }

    /// Nothing is in the way of what `question` asks about.
    private mutating func goOn(from question: Question, into output: inout ByteBuffer) {
        switch question {
        case .connect: greet(into: &output)
        case .hello(let name, let isExtended): greeted(name, isExtended: isExtended, into: &output)
        case .startTLS: beginTLS(into: &output)
        case .login(let user): loggedIn(user, into: &output)
        case .mail(let mail): ask(.room(mail), into: &output)
        case .room(let mail): transactionBegan(mail, into: &output)
        case .recipient(let recipient, let name): recipientAccepted(recipient, name, into: &output)
        case .data: contentMayCome(into: &output)
        case .message(let submission): ask(.end(submission), into: &output)
        case .authentication, .end: preconditionFailure("an answer that lets nobody through")
        }
    }

    /// RFC 5321 section 3.1: a greeting can be a refusal.
    private mutating func greet(into output: inout ByteBuffer) {
        let greeting = configuration.greeting
        guard greeting.code < 400 else { return refuse(.connect, with: greeting, into: &output) }
        write(greeting, into: &output)
    }

    /// The answer is no.
    mutating func refuse(_ question: Question, with reply: Reply, into output: inout ByteBuffer) {
        var address: String?
        var sender = transaction?.mail.sender
        let command: String
        switch question {
        case .connect:
            command = "CONNECT"
            isTurnedAway = true
        case .hello(_, let isExtended): command = isExtended ? "EHLO" : "HELO"
        case .startTLS: command = "STARTTLS"
        case .authentication, .login: command = "AUTH"
        case .mail(let mail), .room(let mail):
            command = "MAIL"
            sender = mail.sender
        case .recipient(_, let name):
            command = "RCPT"
            address = "<\(name)>"
            transaction?.hasRefused = true
        case .data: command = chunk == nil ? "DATA" : "BDAT"
        case .message(let submission), .end(let submission):
            command = "DATA"
            sender = submission.sender
        }
        let refusal = Refusal(
            reply: reply, command: command, address: address, sender: sender, login: user?.login)
        // RFC 5321 section 3.8; 521 as Postfix has it, but in place of the greeting, where RFC 7504 section 3 waits for
        // QUIT.
        let endsSession = reply.code == 421 || reply.code == 521 && question != .connect
        if question == .data, chunk != nil, !endsSession { return skip(with: refusal) }
        refuse(refusal, into: &output)
        if endsSession { enter(.closing(.refused)) }
        if case .message = question, case .command = phase { enter(.discarding) }
    }
}
