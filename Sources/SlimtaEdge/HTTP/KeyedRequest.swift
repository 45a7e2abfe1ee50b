// A request with Idempotency-Key: what is done with it by its key, from the head to the answer. For every resource that takes
// submissions; how an answer is written down is the resource's own.

internal import NIOCore
package import SlimtaMail
package import SlimtaNet
package import SlimtaQueue
internal import SlimtaSMTP

/// A submission with a key that is being made.
package struct KeyedRequest: Sendable {
    /// What the key says before the content is there.
    package enum Opening: Sendable {
        /// It has no key.
        case unkeyed
        /// The first with its key: what it leaves behind is ``KeyedRequest/receipt(_:fingerprint:answer:)``.
        case first(KeyedRequest)
        /// It was made before: what is said to it is known by the fingerprint of its content.
        case again(KeyedRequest, Receipt)
        case refused(Refusal)
    }

    /// What is said to a submission that was made before, or that another one with its key is in the way of.
    package enum Answer: Sendable {
        /// As the first one was answered.
        case replay(KeptAnswer)
        case refused(Refusal)
    }

    /// Why it is not taken.
    package struct Refusal: Sendable {
        /// 400, 409, 422 or 503.
        package let status: Int
        /// A sentence without a full stop.
        package let text: String
        /// Seconds after which it may be made again; nil: not as it is, or as every 503 says.
        package var retryAfter: Int?

        static let inProgress = Refusal(
            status: 409, text: "a submission with this Idempotency-Key is being made", retryAfter: 1)
        static let other = Refusal(
            status: 422, text: "another submission was made with this Idempotency-Key: a new one needs a key of its own"
        )
    }

    private let key: Receipt.Digest
    private let owner: Receipt.Owner
    private let keys: SubmissionKeys
    /// Held until the answer is known.
    private let reservation: SubmissionKeys.Reservation?

    /// Looks at the key of a request. To be asked when it is known who it is from.
    package static func open(_ exchange: HTTPExchange, as login: SubmissionLogin) async -> Opening {
        let request = exchange.request
        let submitter = exchange.submitter(login)
        let digest: Receipt.Digest
        do throws(IdempotencyKey.Mistake) {
            guard let key = try IdempotencyKey(fields: request.values("Idempotency-Key")) else { return .unkeyed }
            // As it was routed: however a client writes where it posts, that is one place.
            let path = HTTPTarget(HTTPTarget(request.target)?.path ?? []).description
            digest = submitter.digest(key, method: request.method, path: path)
        } catch {
            return .refused(Refusal(status: 400, text: error.text))
        }
        func keyed(_ reservation: SubmissionKeys.Reservation?) -> KeyedRequest {
            KeyedRequest(
                key: digest, owner: submitter.owner(hasKey: true), keys: exchange.keys, reservation: reservation)
        }
        do throws(StorageError) {
            switch try await exchange.keys.open(digest) {
            case .first(let reservation): return .first(keyed(reservation))
            case .repeated(let receipt): return .again(keyed(nil), receipt)
            case .inProgress: return .refused(.inProgress)
            }
        } catch {
            return .refused(Refusal(status: 503, text: error.text))
        }
    }

    /// What the first submission leaves behind, in the commit of its message.
    ///
    /// - Parameter due: when the message is to be sent; nil: now.
    package func receipt(
        _ id: QueueID, fingerprint: Receipt.Digest, answer: KeptAnswer, due: Timestamp? = nil
    ) -> Receipt {
        Receipt(
            key: key, owner: owner, fingerprint: fingerprint, id: id, answer: answer.octets,
            expires: (due ?? .now()) + SubmissionKeys.lifetime)
    }

    /// What is said to a submission that was made before, as this receipt tells.
    package func answer(_ receipt: Receipt, fingerprint: Receipt.Digest) -> Answer {
        answer(keys.answer(to: receipt, fingerprint))
    }

    /// What is said to a submission that was refused as ``Reply/repeated``.
    package func answer(fingerprint: Receipt.Digest) async -> Answer {
        answer(await keys.answer(to: key, fingerprint))
    }

    private func answer(_ repetition: SubmissionKeys.Repetition) -> Answer {
        switch repetition {
        case .replay(let receipt): KeptAnswer(receipt.answer).map { .replay($0) } ?? .refused(.other)
        case .other: .refused(.other)
        case .inProgress: .refused(.inProgress)
        }
    }
}

extension HTTPExchange {
    /// Whose submissions are told apart.
    package func submitter(_ login: SubmissionLogin) -> Submitter {
        if case .user(let user) = login {
            if case .process = settings.authenticator { return .localUser(user.login) }
            return .login(user.login)
        }
        return .client(
            edge: settings.name, network: request.peer.connection.peer.address.map { "\($0.customerNetwork)" } ?? "")
    }

    /// A fingerprint of this request as far as its head goes: the type of its content, and the envelope if that is in fields.
    /// The content is to be added.
    package func fingerprint() -> SubmissionDigest {
        var digest = SubmissionDigest()
        for name in ["Content-Type", "X-Envelope-Sender", "X-Envelope-Recipient"] { digest.add(request.values(name)) }
        return digest
    }
}

extension KeptAnswer {
    /// As it is said again.
    package var response: HTTPResponse {
        HTTPResponse(
            Int(status), fields + [("Idempotency-Replayed", "true")],
            .whole(.init(bytes: body)))
    }

    /// As it is said the first time.
    package var first: HTTPResponse {
        HTTPResponse(Int(status), fields, .whole(.init(bytes: body)))
    }
}

extension KeyedRequest.Refusal {
    /// The fields that it is told with.
    package var fields: [(name: String, value: String)] { retryAfter.map { [("Retry-After", "\($0)")] } ?? [] }
}
