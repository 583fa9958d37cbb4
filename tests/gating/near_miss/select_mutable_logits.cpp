// expect: gate: the first parameter of select must be `std::span<const float> logits`, the type of the layer.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token() const { return 1; }
#ifdef MOE_MISTAKE
    int select(std::span<float> logits, moe::Selection out) const;
#else
    int select(std::span<const float> logits, moe::Selection out) const;
#endif
};

static_assert(moe::check_gate<Gate>());
