// The policies of [queue], as slimta.conf says them, and whom they ask. The world makes a chain of them.

import Logging
import NIOCore
import SlimtaConfiguration
import SlimtaMail
import SlimtaNet
import SlimtaPolicy
import SlimtaRules

extension Configuration {
    /// What is done to messages. Throws where an address is none.
    /// - Parameter signer: signs what leaves; nil: nobody does.
    func policyChain(signer: MailSigner?, group: any EventLoopGroup, logger: Logger) throws -> PolicyChain {
        var steps = try queue.policies.compactMap { policy -> PolicyStep? in
            switch policy {
            case .date: .immediate(DatePolicy())
            case .messageID: .immediate(MessageIDPolicy())
            case .forward: .immediate(ForwardPolicy(ForwardRules(forwards), limit: limits.recipients))
            case .spamassassin: try spamAssassin.map { .waiting(try $0.policy(group: group, logger: logger)) }
            case .received: .immediate(ReceivedPolicy(hidesClient: queue.hidesClient))
            case .domainSplit: .immediate(DomainSplitPolicy())
            case .recipientSplit: .immediate(RecipientSplitPolicy())
            }
        }
        if queue.sevenBit == .always { steps.append(.waiting(SevenBitPolicy(logger: logger))) }
        return PolicyChain(
            steps, receivedHops: limits.receivedHops, duplicates: duplicates, qualify: queue.qualify, signer: signer)
    }
}

extension SpamAssassinSettings {
    /// How many messages are shown to spamd at once: it has five processes if nobody says otherwise, and some more wait there.
    private static let mostAtOnce = 10

    fileprivate func policy(group: any EventLoopGroup, logger: Logger) throws -> SpamAssassinPolicy {
        let exchange = OneShotExchange(with: try to.socketAddress, atOnce: Self.mostAtOnce, group: group)
        let settings = SpamAssassinPolicy.Settings(
            timeout: timeout, failsClosed: onFailure == .tempfail, addsFields: addFields, rejectFrom: rejectFrom,
            holdFrom: holdFrom, largest: maxSize)
        return SpamAssassinPolicy(settings, logger: logger) { question in
            await exchange.run(
                question.octets, then: { try await question.rest?.next(65_536) }, limit: SpamVerdict.limit,
                timeout: question.timeout
            ).mapError { .init($0.description, isOverload: $0.isOverload) }
        }
    }
}

extension ServiceAddress {
    /// As the network has it.
    var socketAddress: SocketAddress {
        get throws {
            switch self {
            case .tcp(let address): try SocketAddress(ipAddress: address.host, port: address.port)
            case .unix(let path): try SocketAddress(unixDomainSocketPath: path)
            }
        }
    }
}
