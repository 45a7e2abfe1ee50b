// Standard input, output and error. The composition root calls this before it opens anything.

import Glibc

/// Descriptors 0, 1 and 2.
package enum StandardStreams {
    /// Opens /dev/null for those that are closed: else the next file or socket would get such a number, and what is
    /// written to standard error would go there.
    package static func fill() {
        while true {
            let descriptor = open("/dev/null", O_RDWR)
            guard descriptor >= 0, descriptor <= STDERR_FILENO else {
                if descriptor >= 0 { close(descriptor) }
                return
            }
        }
    }
}
