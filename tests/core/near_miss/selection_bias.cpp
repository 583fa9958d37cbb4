// expect: temporary: give it a name, its elements are read later
#include <moe/gating/strategies/token_choice.hpp>
#include <vector>

#ifdef MOE_MISTAKE
const moe::TokenChoice<> gate{.selection_bias = std::vector<float>{0.5F, 0.0F}};
#else
const std::vector<float> bias{0.5F, 0.0F};
const moe::TokenChoice<> gate{.selection_bias = bias};
#endif
