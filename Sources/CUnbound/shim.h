// libunbound for SlimtaDNS: validating, caching, asynchronous DNS. And eventfd, by which its thread is woken, and which
// Swift's Glibc does not show.
#pragma once
#include <stdint.h>
#include <sys/eventfd.h>
#include <unbound.h>

static inline int C_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
