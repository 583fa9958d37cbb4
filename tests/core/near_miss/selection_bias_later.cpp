// expect: temporary: give it a name, its elements are read later
#include <array>
#include <moe/gating/strategies/token_choice.hpp>

#ifdef MOE_MISTAKE
void use(moe::TokenChoice<>& gate) { gate.per_expert_scale = std::array<float, 2>{0.5F, 1.0F}; }
#else
const std::array<float, 2> scales{0.5F, 1.0F};
void use(moe::TokenChoice<>& gate) { gate.per_expert_scale = scales; }
#endif
