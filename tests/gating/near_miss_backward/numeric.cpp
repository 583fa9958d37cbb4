// expect: this gate cannot be moe::Numeric: write `void weigh(...) const` (moe::WeighingGate)
#include <moe/train/numeric_gate.hpp>

struct Gate {
    int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const;
#ifndef MOE_MISTAKE
    void weigh(std::span<const float> logits, std::span<const moe::ExpertId> experts, moe::Selection out) const;
#endif
};

const moe::Numeric gate{Gate{}};
