#pragma once

#include <string>

/// Of the sources of a level, one calls the other, by a name that every level has.
std::string compiled_for_helper();
