// expect: gate: declare select const.
#include <moe/gating/diagnose.hpp>

struct Gate {
    int max_per_token(int n_tokens, int n_experts) const;
#ifdef MOE_MISTAKE
    void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out);
#else
    void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) const;
#endif
};

static_assert(moe::check_gate<Gate>());
