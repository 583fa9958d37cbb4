// expect: gate: max_assignments must be `int max_assignments(int n_tokens, int n_experts) const`, and public.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token(int n_tokens, int n_experts) const { return n_tokens < n_experts ? 1 : 2; }
    void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) const;
#ifdef MOE_MISTAKE
    int max_assignments(int n_tokens) const;
#else
    int max_assignments(int n_tokens, int n_experts) const;
#endif
};

static_assert(moe::check_gate<Gate>());
