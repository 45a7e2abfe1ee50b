// `slimtad catalog`: the message catalogue, for the installation: make install puts it where `journalctl -x` looks.

import ArgumentParser
import SlimtaSystem

struct CatalogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catalog", abstract: "Print the message catalogue of the journal.", shouldDisplay: false)

    func run() { print(EventCatalogue.file, terminator: "") }
}
