// expect: stacked: weights are float, double, moe::bfloat16 or moe::float16: moe::pack makes integers of these.
#include <cstdint>

#include <moe/experts/expert_bank.hpp>

#ifdef MOE_MISTAKE
auto use(const std::int8_t* weights) {
    const auto stack = moe::stacked(weights, 1, 4, 4);
    return moe::SwiGLU{stack, stack, stack}.d_ff();
}
#else
auto use(const float* weights) {
    const auto stack = moe::stacked(weights, 1, 4, 4);
    return moe::SwiGLU{stack, stack, stack}.d_ff();
}
#endif
