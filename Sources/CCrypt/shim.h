// crypt(3) of libxcrypt for the users file (SlimtaEdge): yescrypt, bcrypt, sha512crypt.
#pragma once
#include <crypt.h>
