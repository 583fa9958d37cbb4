#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <span>

#include "../core/error.hpp"

namespace moe::inline MOE_ABI {

/// What the weights of the experts chosen for a token are divided by. `true` stands for sum(0), `false` for none().
/// An all-zero sum divides by zero, as in the models this comes from, unless an eps or a minimum prevents it.
struct Normalize {
    enum class Kind : unsigned char { none, sum, clamped_sum, lp };

    Kind kind = Kind::none;
    double value = 0;  ///< eps of sum, minimum of clamped_sum, p of lp

    constexpr Normalize() = default;
    constexpr Normalize(Kind the_kind, double the_value) : kind(the_kind), value(the_value) {}
    constexpr Normalize(std::same_as<bool> auto on)  // NOLINT: implicit, for `.normalize = true`
        : kind(on ? Kind::sum : Kind::none) {}

    /// Weights stay as they are.
    [[nodiscard]] static constexpr Normalize none() { return {}; }
    /// w / (sum w + eps), as DeepSeek-V3 with eps = 1e-20.
    [[nodiscard]] static constexpr Normalize sum(double eps = 0) { return {Kind::sum, eps}; }
    /// w / max(sum w, min), as ERNIE 4.5 with min = 1e-12.
    [[nodiscard]] static constexpr Normalize clamped_sum(double min) { return {Kind::clamped_sum, min}; }
    /// w / (sum |w|^p)^(1/p), as DBRX with p = 1; an infinite p divides by the largest |w|.
    [[nodiscard]] static constexpr Normalize lp(double p) { return {Kind::lp, p}; }

    /// Throws Error(range): a kind that is none, eps or minimum negative, not finite or so small that it is 0 in float,
    /// p not above 0 in float.
    void validate() const {
        ensure(kind <= Kind::lp, ErrorCode::range, "Normalize: no kind has the number ", static_cast<int>(kind));
        if (kind == Kind::lp) {
            ensure(value > 0, ErrorCode::range, "Normalize: the p of lp is ", value, ", it must be above 0");
            ensure(static_cast<float>(value) > 0, ErrorCode::range, "Normalize: the p of lp is ", value,
                   ", which is 0 in float");
        } else {
            ensure(value >= 0 && value <= (std::numeric_limits<double>::max)(), ErrorCode::range,
                   "Normalize: the eps or minimum of a sum is ", value, ", it must be finite and not negative");
            ensure(value == 0 || static_cast<float>(value) > 0, ErrorCode::range,
                   "Normalize: the eps or minimum of a sum is ", value,
                   ", which is 0 in float; give 0 or 1.5e-45 at least");
        }
    }

    /// Divides the weights of one token, summed in slot order.
    template <std::floating_point T>
    void operator()(std::span<T> weights) const {
        if (kind == Kind::none) {
            return;
        }
        const T by = divisor<T>(weights);
        for (T& weight : weights) {
            weight /= by;
        }
    }

    /// What the weights of one token are divided by.
    template <std::floating_point T>
    [[nodiscard]] T divisor(std::span<const T> weights) const {
        if (kind == Kind::none) {
            return T(1);
        }
        return kind == Kind::lp ? lp_norm<T>(weights) : divisor_of_sum<T>(weights);
    }

private:
    template <class T>
    [[nodiscard]] T divisor_of_sum(std::span<const T> weights) const {
        T sum = 0;
        for (const T weight : weights) {
            sum += weight;
        }
        // (std::max)(sum, minimum) would turn a NaN sum into the minimum.
        const auto bound = static_cast<T>(value);
        return kind == Kind::sum ? sum + bound : (sum < bound ? bound : sum);
    }

    // In double, since powers of float weights leave the range of float.
    template <class T>
    [[nodiscard]] T lp_norm(std::span<const T> weights) const {
        double sum = 0;
        for (const T weight : weights) {
            const double size = std::abs(static_cast<double>(weight));
            if (std::isinf(value)) {
                sum = size > sum || std::isnan(size) ? size : sum;
            } else {
                sum += std::pow(size, value);
            }
        }
        return static_cast<T>(std::isinf(value) ? sum : std::pow(sum, 1 / value));
    }
};

}  // namespace moe::inline MOE_ABI
