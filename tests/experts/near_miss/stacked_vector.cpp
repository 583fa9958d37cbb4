// expect: stacked: give the pointer, not the vector: moe::stacked(weights.data(), n_experts, rows, cols).
#include <vector>

#include <moe/experts/weight_stack.hpp>

#ifdef MOE_MISTAKE
auto use(const std::vector<float>& weights) { return moe::stacked(weights, 4, 6, 8).outputs(); }
#else
auto use(const std::vector<float>& weights) { return moe::stacked(weights.data(), 4, 6, 8).outputs(); }
#endif
