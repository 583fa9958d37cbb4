// For the header that drivers of tests are compiled with, which g++ 13 must be given the same -O for.
#include "support/precompiled.hpp"
