#pragma once

/// What the tests share, parsed once. A test includes what it uses all the same: it must also compile by itself.

#include <moe/instantiate_train.hpp>
#include <moe/stats.hpp>
#include <sstream>
#include <thread>

#include "support/catch.hpp"
#include "support/layer_cases.hpp"

// compiled once, in layer_cases.cpp
extern template class moe_test::LayerCase<float>;
extern template class moe_test::LayerCase<double>;
extern template class moe_test::LayerCase<moe::bfloat16>;
extern template class moe_test::LayerCase<moe::float16>;
