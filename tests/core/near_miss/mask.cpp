// expect: temporary: give it a name, its elements are read later
#include <moe/moe.hpp>
#include <vector>

#ifdef MOE_MISTAKE
const moe::Masked<moe::TokenChoice<>> gate{.allowed = std::vector<std::uint8_t>(4, 1)};
#else
const std::vector<std::uint8_t> allowed(4, 1);
const moe::Masked<moe::TokenChoice<>> gate{.allowed = allowed};
#endif
