// GDBM for SlimtaStorage: the header, and what Swift cannot import (macros, the errno macro) as static inline functions.
#pragma once
#include <gdbm.h>
