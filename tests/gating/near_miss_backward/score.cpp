// expect: this gate has no backward: write `void backward(...) const`, or wrap it in moe::Numeric or moe::Detached
#include <moe/gating/strategies/token_choice.hpp>

struct Cube {
    void operator()(std::span<const float> logits, std::span<float> scores) const;
#ifndef MOE_MISTAKE
    void backward(std::span<const float> logits, std::span<const float> scores, std::span<const float> d_scores,
                  std::span<float> d_logits) const;
#endif
};
using Gate = moe::TokenChoice<Cube>;

void differentiate(const Gate& gate, std::span<const float> logits, const moe::Chosen<float>& chosen,
                   std::span<float> d_logits) {
    moe::gate_backward<float>(gate, logits, chosen, chosen.weights, d_logits);
}
