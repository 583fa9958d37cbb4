// expect: gate: select must return an int, the number of experts it chose.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token() const { return 1; }
#ifdef MOE_MISTAKE
    void select(std::span<const float> logits, moe::Selection out) const;
#else
    int select(std::span<const float> logits, moe::Selection out) const;
#endif
};

static_assert(moe::check_gate<Gate>());
