#define MOE_TEST_RUN run_v3
#include "body.hpp"
