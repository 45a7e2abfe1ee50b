// libidn2 for SlimtaMail: international domain names in the ASCII form that DNS has (RFC 5891, UTS 46).
#pragma once
#include <idn2.h>
