// expect: temporary: give it a name, its elements are read later
#include <moe/moe.hpp>
#include <vector>

#ifdef MOE_MISTAKE
auto use(moe::MatrixView<const float> weight) {
    return moe::Router{weight, std::vector<float>(4), moe::TokenChoice<>{}};
}
#else
auto use(moe::MatrixView<const float> weight, const std::vector<float>& bias) {
    return moe::Router{weight, bias, moe::TokenChoice<>{}};
}
#endif
