#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include "../../core/error.hpp"

namespace moe::inline MOE_ABI {

/// How many places every expert has for the choices of a group of T tokens, among E experts, k choices a token:
///
///     fixed       value                       HF's Switch Transformers: 64 a sequence
///     factor      round(k T / E * value)      Switch (Fedus et al. 2021, 2101.03961, eq. 3), DeepSpeed, Megatron
///     per_choice  k * ceil(T / E * value)     NLLB-MoE, 2 ceil(T / E)
///     fraction    ceil(T * value)             NLLB-MoE in evaluation
///
/// computed in double, and `minimum` at least. Mesh TensorFlow (Switch, ST-MoE) leaves k out of the factor: k = 1 here.
struct CapacityLimit {
    enum class Kind : unsigned char { fixed, factor, per_choice, fraction };
    enum class Rounding : unsigned char { ceil, floor };

    Kind kind = Kind::factor;
    double value = 1;                    ///< the number of places, the factor or the fraction
    Rounding rounding = Rounding::ceil;  ///< of `factor`; Mesh TensorFlow and ST-MoE round down
    int k = 0;                           ///< choices a token; 0: the most that the gate may make
    std::size_t minimum = 0;             ///< places an expert has in any case: 4 in Mesh TensorFlow and DeepSpeed

    [[nodiscard]] static constexpr CapacityLimit fixed(std::size_t places) {
        return {.kind = Kind::fixed, .value = static_cast<double>(places)};
    }
    [[nodiscard]] static constexpr CapacityLimit factor(double factor) { return {.value = factor}; }

    /// Throws Error(range): a kind or rounding that is none, a value negative or not finite, a fixed number of places
    /// that is not whole, a negative k.
    void validate() const {
        ensure(kind <= Kind::fraction, ErrorCode::range, "CapacityLimit: no kind has the number ",
               static_cast<int>(kind));
        ensure(rounding <= Rounding::floor, ErrorCode::range, "CapacityLimit: no rounding has the number ",
               static_cast<int>(rounding));
        ensure(value >= 0 && std::isfinite(value), ErrorCode::range, "CapacityLimit: the value is ", value,
               ", it must be finite and not negative");
        ensure(kind != Kind::fixed || value == std::floor(value), ErrorCode::range, "CapacityLimit: ", value,
               " places, a fixed number must be whole");
        ensure(k >= 0, ErrorCode::range, "CapacityLimit: k is ", k, ", it must not be negative");
    }

    /// Places of each of `n_experts` for `n_tokens`, `most_per_token` being the k of a limit that has none of its own.
    [[nodiscard]] std::size_t places(std::size_t n_tokens, std::size_t most_per_token, std::size_t n_experts) const {
        const auto tokens = static_cast<double>(n_tokens);
        const double choices = k > 0 ? k : static_cast<double>(most_per_token);
        const double experts = n_experts > 0 ? static_cast<double>(n_experts) : 1;
        double count = value;
        if (kind == Kind::factor) {
            count *= choices * tokens / experts;
            count = rounding == Rounding::ceil ? std::ceil(count) : std::floor(count);
        } else if (kind == Kind::per_choice) {
            count = choices * std::ceil(value * (tokens / experts));
        } else if (kind == Kind::fraction) {
            count = std::ceil(value * tokens);
        }
        constexpr std::size_t most = (std::numeric_limits<std::size_t>::max)();
        const std::size_t whole = count < 0x1p53 ? static_cast<std::size_t>(count) : most;
        return whole > minimum ? whole : minimum;
    }
};

}  // namespace moe::inline MOE_ABI
