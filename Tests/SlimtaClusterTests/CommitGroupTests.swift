// Which commits may be one transaction: never two words about one envelope or receipt that a transaction would say in another
// order.

import NIOCore
import SlimtaMail
import SlimtaQueue
import Testing

@testable import SlimtaCluster

@Suite struct CommitGroupTests {
    private static let id = QueueID(high: 1, low: 2)
    private static let key = Receipt.Digest(1, 2, 3, 4)

    /// What can be said of one envelope or one receipt, by its place among the statements of a transaction.
    private enum Word: Int, CaseIterable {
        case accept = 1
        case state, end, insert, forget

        var commit: QueueCommit {
            switch self {
            case .accept:
                let envelope = Envelope(
                    id: id, sender: nil, recipients: [], received: Timestamp(milliseconds: 0), body: .sevenBit,
                    smtpUTF8: false,
                    client: ClientInfo(address: "", name: "", protocolWord: ""), prependedFields: ByteBuffer())
                return QueueCommit(
                    accepted: [.init(envelope, due: Timestamp(milliseconds: 0))], message: Message(head: ByteBuffer()))
            case .state:
                return QueueCommit(states: [EnvelopeState(id: id, due: Timestamp(milliseconds: 0), recipients: [])])
            case .end: return QueueCommit(ended: [Ending(id: id, delivered: 1)])
            case .insert:
                return QueueCommit(receipts: [
                    Receipt(key: key, owner: .init(high: 1, low: 1), fingerprint: key, id: id, expires: nil)
                ])
            case .forget: return QueueCommit(forgotten: [key])
            }
        }

        var isOfReceipt: Bool { self == .insert || self == .forget }
    }

    private static func pending(_ commit: QueueCommit) -> CommitGroup.Pending {
        .init(commit: commit, incarnation: 1, completion: { _ in })
    }

    @Test func everyPair() {
        for first in Word.allCases {
            for second in Word.allCases {
                var group = CommitGroup(Self.pending(first.commit))
                let isApart = first.isOfReceipt != second.isOfReceipt
                let isTaken = group.add(Self.pending(second.commit))
                #expect(
                    isTaken == (isApart || second.rawValue > first.rawValue),
                    "\(first) then \(second)")
            }
        }
    }

    @Test func whatIsRefusedLeavesNothingBehind() {
        var group = CommitGroup(Self.pending(Word.end.commit))
        var both = Word.state.commit
        both.forgotten = [Self.key]
        let isTaken = group.add(Self.pending(both))
        #expect(!isTaken)
        let isLater = group.add(Self.pending(Word.insert.commit))
        #expect(isLater && group.commits.count == 2)
    }

    @Test func limits() {
        var group = CommitGroup()
        var states = QueueCommit()
        states.states = (0..<5000).map {
            EnvelopeState(id: QueueID(high: 9, low: $0), due: Timestamp(milliseconds: 0), recipients: [])
        }
        let isFirst = group.add(Self.pending(states))
        #expect(isFirst, "the first always fits")
        let isSecond = group.add(Self.pending(Word.insert.commit))
        #expect(!isSecond)
        var large = CommitGroup(Self.pending(Word.insert.commit))
        var mail = Word.accept.commit
        mail.message = Message(head: ByteBuffer(repeating: 1, count: 5 << 20))
        let isTaken = large.add(Self.pending(mail))
        #expect(!isTaken)
        var alone = CommitGroup()
        let isAlone = alone.add(Self.pending(mail))
        #expect(isAlone)
    }

    @Test func whoComesBackWithIt() {
        #expect(Word.accept.commit.isNewMail && Word.insert.commit.isNewMail)
        #expect(!Word.state.commit.isNewMail && !Word.end.commit.isNewMail && !Word.forget.commit.isNewMail)
        var held = Word.accept.commit
        held.states = Word.state.commit.states
        #expect(held.isNewMail, "a first state is part of new mail")
        held.ended = Word.end.commit.ended
        #expect(!held.isNewMail)
    }
}
