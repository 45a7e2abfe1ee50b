// What is in a folder. `slimtad check` looks into /proc and the unit's folders with it; at start and at reload open files
// are counted.

import Glibc

/// Reads folders.
package enum FolderListing {
    /// The names of all entries but "." and "..", in no order; nil if the folder cannot be opened.
    package static func names(in path: String) -> [String]? {
        guard let folder = opendir(path) else { return nil }
        defer { closedir(folder) }
        var names: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
