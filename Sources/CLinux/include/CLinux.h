// The few Linux calls that Swift's Glibc does not show.
#pragma once
#include "CLinuxStorage.h"
