// A program of several files, of which one compiles what all use: the pattern of moe/instantiate.hpp. The same program
// as main.cpp otherwise.
#include <moe/instantiate.hpp>

#include "main.cpp"
