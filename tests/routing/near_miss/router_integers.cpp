// expect: Router: weights are float, double, moe::bfloat16 or moe::float16.
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/routing/router.hpp>

#ifdef MOE_MISTAKE
auto use(const int* weights) { return moe::Router{moe::view(weights, 4, 8), moe::TokenChoice<>{}}.n_experts(); }
#else
auto use(const float* weights) { return moe::Router{moe::view(weights, 4, 8), moe::TokenChoice<>{}}.n_experts(); }
#endif
