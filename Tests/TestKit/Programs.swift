// Where the programs are that tests run and nobody here wrote: on the machine, or unpacked below .venv/debian by
// `.ci/deps test`, which does not install what would start a service.

package import Foundation

package enum Programs {
    private static let unpacked = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../.venv/debian").standardizedFileURL

    /// The program `name` of /usr/sbin, of the Debian package `package`.
    package static func sbin(_ name: String, package: String) -> URL {
        let installed = URL(filePath: "/usr/sbin/\(name)")
        if FileManager.default.isExecutableFile(atPath: installed.path) { return installed }
        return unpacked.appending(path: "\(package)/usr/sbin/\(name)")
    }

    /// The environment that it needs to find the libraries of its package.
    package static func environment(package: String) -> [String: String] {
        ProcessInfo.processInfo.environment.merging(
            ["LD_LIBRARY_PATH": unpacked.appending(path: "\(package)/usr/lib/\(package)").path],
            uniquingKeysWith: { $1 })
    }
}
