// expect: weights: gate, up, down and biases of a bank must be of one type, all float for example.
#include <moe/experts/expert_bank.hpp>

#ifdef MOE_MISTAKE
auto use(const float* gate, const double* up, const float* down) {
    return moe::SwiGLU{moe::stacked(gate, 4, 6, 8), moe::stacked(up, 4, 6, 8), moe::stacked(down, 4, 8, 6)}.d_ff();
}
#else
auto use(const float* gate, const float* up, const float* down) {
    return moe::SwiGLU{moe::stacked(gate, 4, 6, 8), moe::stacked(up, 4, 6, 8), moe::stacked(down, 4, 8, 6)}.d_ff();
}
#endif
