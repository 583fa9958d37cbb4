// expect: this gate has no backward: write `void backward(...) const`, or wrap it in moe::Numeric or moe::Detached
#include <moe/gating/backward.hpp>

struct Gate {
    int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const;
#ifdef MOE_MISTAKE
    std::span<float> backward(std::span<const float> logits, moe::Chosen<float> chosen,
                              std::span<const float> d_weights, std::span<float> d_logits) const;
#else
    void backward(std::span<const float> logits, moe::Chosen<float> chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const;
#endif
};

void differentiate(const Gate& gate, std::span<const float> logits, const moe::Chosen<float>& chosen,
                   std::span<float> d_logits) {
    moe::gate_backward<float>(gate, logits, chosen, chosen.weights, d_logits);
}
