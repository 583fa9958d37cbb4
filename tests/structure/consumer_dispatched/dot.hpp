#pragma once

#include <cstddef>
#include <string>

#include <moe/dispatched.hpp>

struct Dot {
    std::string instruction_set;
    float value;
};

/// a . b, of n values each.
MOE_DISPATCHED(dot, Dot(const float* a, const float* b, std::size_t n));
