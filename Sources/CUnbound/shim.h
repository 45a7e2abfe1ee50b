// libunbound for SlimtaDNS: validating, caching, asynchronous DNS.
#pragma once
#include <unbound.h>
