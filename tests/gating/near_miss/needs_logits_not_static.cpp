// expect: gate: needs_logits must be `static constexpr bool needs_logits`, and public.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const;
#ifdef MOE_MISTAKE
    bool needs_logits = false;
#else
    static constexpr bool needs_logits = false;
#endif
};

static_assert(moe::check_gate<Gate>());
