#define MOE_TEST_RUN run_baseline
#include "body.hpp"
