// expect: this gate has no backward: write `void backward(...) const`, or wrap it in moe::Numeric or moe::Detached
#include <moe/gating/adaptors/masked.hpp>
#include <moe/train/detached.hpp>

struct Silent {
    int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const;
};

#ifdef MOE_MISTAKE
using Gate = moe::Masked<Silent>;
#else
using Gate = moe::Masked<moe::Detached<Silent> >;
#endif

void differentiate(const Gate& gate, std::span<const float> logits, const moe::Chosen<float>& chosen,
                   std::span<float> d_logits) {
    moe::gate_backward<float>(gate, logits, chosen, chosen.weights, d_logits);
}
