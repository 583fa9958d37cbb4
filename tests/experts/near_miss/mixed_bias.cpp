// expect: weights: gate, up, down and biases of a bank must be of one type, all float for example.
#include <moe/experts/expert_bank.hpp>

#ifdef MOE_MISTAKE
void use(moe::ExpertWeights<moe::bfloat16>& weights, const float* bias) {
    weights.up_bias = moe::stacked(bias, 4, 6, 1);
}
#else
void use(moe::ExpertWeights<moe::bfloat16>& weights, const moe::bfloat16* bias) {
    weights.up_bias = moe::stacked(bias, 4, 6, 1);
}
#endif
