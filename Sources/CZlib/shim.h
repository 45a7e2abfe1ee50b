// zlib for SlimtaNet: gzip (RFC 1952). deflateInit2 is a macro, which Swift does not see.
#pragma once
#include <zlib.h>

// 31: a window of 32 KiB, within the header and the trailer of gzip.
static inline int C_gzip_init(z_stream *stream) {
    return deflateInit2(stream, Z_BEST_COMPRESSION, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
}
