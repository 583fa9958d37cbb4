#define MOE_TEST_RUN run_v4
#include "body.hpp"
