// expect: gate: add the member `int max_per_token() const`, the most experts select may choose.
#include <moe/gating/diagnose.hpp>

struct Gate {
#ifdef MOE_MISTAKE
#else
    int max_per_token() const { return 1; }
#endif
    int select(std::span<const float> logits, moe::Selection out) const;
};

static_assert(moe::check_gate<Gate>());
