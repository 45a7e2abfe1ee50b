// What others are asked within a limit of time: name servers, issuers of tokens, servers over HTTPS. For whoever asks them.

/// What `body` gives; nil if that takes longer than `limit`, or if the task is cancelled: `body` is then cancelled as well.
package func within<Value: Sendable>(
    _ limit: Duration, _ body: @escaping @Sendable () async -> Value
) async -> Value? {
    await withTaskGroup(of: Value?.self) { group in
        group.addTask { await body() }
        group.addTask {
            try? await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        return await group.next() ?? nil
    }
}
