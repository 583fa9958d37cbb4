// expect: weights: gate, up, down and biases of a bank must be of one type, all float for example.
#include <moe/experts/expert_bank.hpp>

#ifdef MOE_MISTAKE
auto use(const float* gate_up, const moe::bfloat16* down) {
    return moe::SwiGLU{moe::concatenated(moe::stacked(gate_up, 4, 12, 8)), moe::stacked(down, 4, 8, 6)}.d_ff();
}
#else
auto use(const float* gate_up, const float* down) {
    return moe::SwiGLU{moe::concatenated(moe::stacked(gate_up, 4, 12, 8)), moe::stacked(down, 4, 8, 6)}.d_ff();
}
#endif
