// The few Linux calls that Swift's Glibc does not show: one header per concern. None includes what has types of the system in
// it (sys/types.h has timespec): whichever module is read first would be theirs, and Swift files that import Glibc alone
// would not see their members (MemberImportVisibility), in some clones and not in others.
#pragma once

#include "CLinuxCommand.h"
#include "CLinuxProcess.h"
#include "CLinuxStorage.h"
