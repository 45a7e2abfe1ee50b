// OpenSSL for SlimtaTLS: the headers, and what Swift cannot import (macros, variadics) as static inline functions.
#pragma once
#include <openssl/ssl.h>
#include <openssl/err.h>
