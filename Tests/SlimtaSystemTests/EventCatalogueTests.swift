// Every event that the program logs is in the catalogue, and nothing else is.

import Foundation
import Testing

@testable import SlimtaSystem

@Suite struct EventCatalogueTests {
    @Test func everyEventHasItsEntry() throws {
        let logged = try Self.loggedMessages()
        // A search that finds nothing would prove nothing.
        #expect(logged.count > 50)
        let known = Set(EventCatalogue.entries.map(\.message))
        for (message, place) in logged where !known.contains(message) {
            Issue.record("not in the catalogue: \(message) (\(place))")
        }
        for message in known.subtracting(logged.keys) { Issue.record("nothing logs this any more: \(message)") }
    }

    @Test func idsAreUnique() {
        let ids = EventCatalogue.entries.map(\.id)
        #expect(Set(ids).count == ids.count)
        for id in ids { #expect(id.wholeMatch(of: /[0-9a-f]{32}/) != nil) }
        #expect(EventCatalogue.id(of: "delivered") == EventCatalogue.entries.first { $0.message == "delivered" }?.id)
        #expect(EventCatalogue.id(of: "something else") == nil)
    }

    @Test func fileHasEachEntryOnce() {
        let file = EventCatalogue.file
        for entry in EventCatalogue.entries {
            #expect(file.components(separatedBy: "-- \(entry.id)\nSubject: slimtad: \(entry.message)\n").count == 2)
        }
        for line in file.split(separator: "\n") where !line.hasPrefix("Subject:") && !line.hasPrefix("#") {
            #expect(line.utf8.count <= 80, "\(line)")
        }
    }

    /// The literal messages of all calls of a logger in Sources/, and where they are.
    private static func loggedMessages() throws -> [String: String] {
        let sources = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../Sources")
            .standardizedFileURL
        let literal = #""((?:[^"\\]|\\.)*)""#
        let levels = "(?:trace|debug|info|notice|warning|error|critical)"
        let calls = [
            // logger.info("..."
            #"\blogger\s*\.\s*"# + levels + #"\(\s*"# + literal,
            // logger.log(level: level, "...", log(.info, "...", log(isX ? .debug : .info, "..."; not the control socket's
            // log(request, "..."), which is one kind of event with the text as a field.
            #"\blog\(\s*(?!request)(?:level:\s*)?[^"(){};]{0,60},\s*"# + literal,
        ]
        let inExtensionOfLogger = [#"(?:^|[^\w.])"# + levels + #"\(\s*"# + literal]
        // var message: Logger.Message { switch self { case .x: "..." } }
        let computed = [#"case \.\w+: "# + literal]

        // By Unicode's rules "settings.logger" is one word.
        func regex(_ pattern: String) throws -> Regex<(Substring, Substring)> {
            try Regex(pattern, as: (Substring, Substring).self).wordBoundaryKind(.simple)
        }
        var found: [String: String] = [:]
        func search(_ text: Substring, _ patterns: [String], _ file: String) throws {
            for pattern in patterns {
                for match in String(text).matches(of: try regex(pattern)) {
                    found[String(match.output.1)] = file
                }
            }
        }
        let files = FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)
        while let file = files?.nextObject() as? URL {
            guard file.pathExtension == "swift" else { continue }
            let text = try String(contentsOf: file, encoding: .utf8)
            try search(text[...], calls, file.lastPathComponent)
            if text.contains("extension Logger {") {
                try search(text[...], inExtensionOfLogger, file.lastPathComponent)
            }
            for part in text.components(separatedBy: "message: Logger.Message {").dropFirst() {
                try search(part.prefix { $0 != "}" }, computed, file.lastPathComponent)
            }
        }
        return found
    }
}
