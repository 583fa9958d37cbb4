// What a library of dispatched sources has beside them, compiled once.
#include "dot.hpp"

float squared_length(const float* a, std::size_t n) { return dot(a, a, n).value; }
