#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace compare {

/// How often each expert is the favourite of a token.
enum class Distribution : unsigned char {
    uniform,  ///< all alike
    zipf,     ///< the expert of rank r with probability proportional to 1 / r
    one_hot,  ///< one expert with probability 0.9, the others alike
};
inline constexpr Distribution all_distributions[] = {Distribution::uniform, Distribution::zipf, Distribution::one_hot};

[[nodiscard]] constexpr std::string_view distribution_name(Distribution distribution) noexcept {
    constexpr std::string_view names[] = {"uniform", "zipf", "one-hot"};
    return names[static_cast<unsigned>(distribution)];
}

/// Random logits (n_tokens, n_experts): log p_e plus a variable of the standard Gumbel distribution. Their greatest is
/// expert e with probability p_e, and their k greatest are a draw of k without putting back (Kool et al. 2019,
/// 1903.06059, section 2.3). Row t depends on `seed` and t only.
[[nodiscard]] std::vector<float> random_logits(Distribution distribution, std::size_t n_tokens, std::size_t n_experts,
                                               std::uint64_t seed);

}  // namespace compare
