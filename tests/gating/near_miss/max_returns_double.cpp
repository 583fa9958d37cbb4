// expect: gate: max_per_token must return an int.
#include <moe/gating/diagnose.hpp>

struct Gate {
#ifdef MOE_MISTAKE
    double max_per_token() const { return 1; }
#else
    int max_per_token() const { return 1; }
#endif
    int select(std::span<const float> logits, moe::Selection out) const;
};

static_assert(moe::check_gate<Gate>());
