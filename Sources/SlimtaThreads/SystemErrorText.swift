// What the system calls its errors: for the messages of whoever calls it, and of storages above all.

import CLinux

/// The system's text for an errno.
package func systemErrorText(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
        slimta_error_text(code, buffer.baseAddress, buffer.count)
        return String(cString: buffer.baseAddress!)
    }
}
