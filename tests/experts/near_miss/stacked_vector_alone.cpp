// expect: stacked: give the pointer, not the vector: moe::stacked(weights.data(), n_experts, rows, cols).
#include <vector>

#include <moe/experts/expert_bank.hpp>

#ifdef MOE_MISTAKE
auto use(const std::vector<float>& weights) {
    return moe::SwiGLU{moe::stacked(weights), moe::stacked(weights), moe::stacked(weights)}.d_ff();
}
#else
auto use(const std::vector<float>& weights) {
    const auto stack = moe::stacked(weights.data(), 1, 4, 4);
    return moe::SwiGLU{stack, stack, stack}.d_ff();
}
#endif
