#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include <dnnl.hpp>

#include <moe/kernels/arch/bfloat16_lanes.hpp>

namespace bench {

/// What oneDNN multiplies in: how rows of activations and of weights are put into it, each with the scale that their
/// products must be multiplied with, and what the sums are.
struct InFloat32 {
    static constexpr auto type = dnnl::memory::data_type::f32;
    static constexpr const char* name = "onednn";
    static constexpr bool scaled = false;
    using Value = float;
    using Sum = float;

    static float encode(const float* x, std::size_t n, Value* to) {
        std::copy_n(x, n, to);
        return 1;
    }
};

struct InBfloat16 {
    static constexpr auto type = dnnl::memory::data_type::bf16;
    static constexpr const char* name = "onednn_bf16";
    static constexpr bool scaled = false;
    using Value = moe::bfloat16;
    using Sum = float;

    static float encode(const float* x, std::size_t n, Value* to) {
        moe::arch::round_run(x, n, to);
        return 1;
    }
};

/// One scale a row, which is what engines do that multiply 8-bit integers.
struct InInt8 {
    static constexpr auto type = dnnl::memory::data_type::s8;
    static constexpr const char* name = "onednn_int8";
    static constexpr bool scaled = true;
    using Value = std::int8_t;
    using Sum = std::int32_t;

    static float encode(const float* x, std::size_t n, Value* to) {
        float largest = 0;
        for (std::size_t i = 0; i < n; ++i) {
            largest = std::max(largest, std::abs(x[i]));
        }
        const float inverse = largest > 0 ? 127 / largest : 0;
        for (std::size_t i = 0; i < n; ++i) {
            to[i] = static_cast<Value>(std::nearbyint(x[i] * inverse));
        }
        return largest / 127;
    }
};

}  // namespace bench
