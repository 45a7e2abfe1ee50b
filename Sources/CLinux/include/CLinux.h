// The few Linux calls that Swift's Glibc does not show: one header per concern.
#pragma once

#include "CLinuxCommand.h"
#include "CLinuxProcess.h"
#include "CLinuxStorage.h"
