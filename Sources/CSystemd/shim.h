// libsystemd for SlimtaSystem: readiness, watchdog, inherited sockets, journal.
#pragma once
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
