// The kernels and passes that the tests share, compiled once: the file that moe/instantiate.hpp asks a program
// for.
#include <moe/instantiate/definitions.hpp>
