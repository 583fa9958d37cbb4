// expect: gate: validate must be `void validate(std::size_t n_experts) const`, and public.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token() const { return 1; }
    int select(std::span<const float> logits, moe::Selection out) const;
#ifdef MOE_MISTAKE
    void validate() const;
#else
    void validate(std::size_t n_experts) const;
#endif
};

static_assert(moe::check_gate<Gate>());
