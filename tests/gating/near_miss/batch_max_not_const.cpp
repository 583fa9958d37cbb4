// expect: gate: declare max_per_token const.
#include <moe/gating/diagnose.hpp>

struct Gate {
#ifdef MOE_MISTAKE
    int max_per_token(int n_tokens, int n_experts);
#else
    int max_per_token(int n_tokens, int n_experts) const;
#endif
    void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) const;
};

static_assert(moe::check_gate<Gate>());
