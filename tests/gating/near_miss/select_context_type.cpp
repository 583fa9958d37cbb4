// expect: gate: the second of three parameters of select must be `moe::TokenContext context`.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token() const { return 1; }
#ifdef MOE_MISTAKE
    int select(std::span<const float> logits, int token, moe::Selection out) const;
#else
    int select(std::span<const float> logits, moe::TokenContext token, moe::Selection out) const;
#endif
};

static_assert(moe::check_gate<Gate>());
