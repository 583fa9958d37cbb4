// The file that moe/instantiate.hpp asks a program for: kernels and passes, compiled once. The demo and the benchmarks,
// each of several files that use layers, are linked with it.
#include <moe/instantiate/definitions.hpp>
