// expect: gate: n_experts must be `int n_experts(int n_logits) const`, and public.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const;
#ifdef MOE_MISTAKE
    int n_experts() const;
#else
    int n_experts(int n_logits) const;
#endif
};

static_assert(moe::check_gate<Gate>());
