#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>

#include "../core/error.hpp"

namespace moe::inline MOE_ABI {

/// A score function turns the logits of one token into scores, (n_experts) each; `logits` and `scores` may be the same
/// memory. A user's own is a struct with this operator; T is float or double. `static constexpr bool needs_logits =
/// false` says that it reads none; `void validate() const`, called at set-up, reports settings that cannot be.
///
/// `static constexpr bool strictly_increasing = true` says that of two logits of a token the greater has the greater
/// score. Gates then rank experts by the logits, which is what exact arithmetic would do: in floating point scores
/// saturate, the sigmoids of 20 and 40 are both 1 in float. `static constexpr bool elementwise = true` says the same of
/// logits of different tokens: each score depends on its own logit alone.
template <class S, class T = float>
concept ScoreFunction = requires(const S& score, std::span<const T> logits, std::span<T> scores) {
    score(logits, scores);
};

/// exp(l_e) / sum exp(l_j), with the maximum subtracted first so that nothing overflows.
struct Softmax {
    static constexpr bool strictly_increasing = true;
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        if (logits.empty()) {
            return;
        }
        const T max = *std::max_element(logits.begin(), logits.end());
        T sum = 0;
        for (std::size_t e = 0; e < logits.size(); ++e) {
            scores[e] = std::exp(logits[e] - max);
            sum += scores[e];
        }
        for (T& score : scores) {
            score /= sum;
        }
    }
};

namespace detail {

/// 1 / (1 + exp(-x)), through exp of a negative number only: a large -x would overflow, and lose the tail.
template <std::floating_point T>
[[nodiscard]] T sigmoid(T x) {
    const T small = std::exp(-std::abs(x));
    return (x < 0 ? small : T(1)) / (T(1) + small);
}

/// log(1 + exp(x)), exact to rounding on both sides.
template <std::floating_point T>
[[nodiscard]] T softplus(T x) {
    return (std::max)(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

}  // namespace detail

/// 1 / (1 + exp(-l)).
struct Sigmoid {
    static constexpr bool strictly_increasing = true;
    static constexpr bool elementwise = true;
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        std::transform(logits.begin(), logits.end(), scores.begin(), detail::sigmoid<T>);
    }
};

/// sqrt(log(1 + exp(l))), the score of DeepSeek-V4.
struct SqrtSoftplus {
    static constexpr bool strictly_increasing = true;
    static constexpr bool elementwise = true;
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        std::transform(logits.begin(), logits.end(), scores.begin(),
                       [](T l) { return std::sqrt(detail::softplus(l)); });
    }
};

/// max(l, 0), the score of ReMoE (Wang et al. 2024, 2412.14711); NaN stays NaN. `Relu` is the activation of an expert.
struct ReluScore {
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        std::transform(logits.begin(), logits.end(), scores.begin(), [](T l) { return l < 0 ? T(0) : l; });
    }
};

/// The logits themselves.
struct Identity {
    static constexpr bool strictly_increasing = true;
    static constexpr bool elementwise = true;
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        std::copy(logits.begin(), logits.end(), scores.begin());
    }
};

/// 1 for every expert; reads no logits.
struct Uniform {
    static constexpr bool needs_logits = false;
    template <std::floating_point T>
    void operator()(std::span<const T> /*logits*/, std::span<T> scores) const {
        std::fill(scores.begin(), scores.end(), T(1));
    }
};

/// Name of one of the score functions above.
enum class ScoreKind : unsigned char { softmax, sigmoid, sqrt_softplus, identity, uniform, relu };

/// The score function that `kind` names, for a configuration known at run time.
struct RuntimeScore {
    ScoreKind kind = ScoreKind::softmax;

    /// Throws Error(range): a kind that is none.
    void validate() const {
        ensure(kind <= ScoreKind::relu, ErrorCode::range, "RuntimeScore: no score function has the number ",
               static_cast<int>(kind));
    }

    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        switch (kind) {
            case ScoreKind::softmax: return Softmax{}(logits, scores);
            case ScoreKind::sigmoid: return Sigmoid{}(logits, scores);
            case ScoreKind::sqrt_softplus: return SqrtSoftplus{}(logits, scores);
            case ScoreKind::identity: return Identity{}(logits, scores);
            case ScoreKind::uniform: return Uniform{}(logits, scores);
            case ScoreKind::relu: return ReluScore{}(logits, scores);
        }
        raise_error(ErrorCode::range, "RuntimeScore: no score function has the number ", static_cast<int>(kind));
    }
};

namespace detail {

/// Set-up check of a score function: throws whatever its own `validate() const`, if it has one, refuses.
template <class S>
void validate_score(const S& score) {
    if constexpr (requires { score.validate(); }) {
        score.validate();
    }
}

/// See ScoreFunction.
template <class S>
[[nodiscard]] constexpr bool is_strictly_increasing([[maybe_unused]] const S& score) {
    if constexpr (std::same_as<S, RuntimeScore>) {
        return score.kind != ScoreKind::uniform && score.kind != ScoreKind::relu;
    } else if constexpr (requires { requires std::same_as<const bool, decltype(S::strictly_increasing)>; }) {
        return S::strictly_increasing;
    } else {
        return false;
    }
}
template <class S>
[[nodiscard]] constexpr bool is_elementwise([[maybe_unused]] const S& score) {
    if constexpr (std::same_as<S, RuntimeScore>) {
        return score.kind != ScoreKind::softmax;
    } else if constexpr (requires { requires std::same_as<const bool, decltype(S::elementwise)>; }) {
        return S::elementwise;
    } else {
        return false;
    }
}

/// What the experts of a token are ranked by where no bias is added: its logits, or its scores where these are not
/// strictly increasing, or no logits are read.
template <class S, class T>
[[nodiscard]] std::span<const T> ranked_by(const S& score, std::span<const T> logits, std::span<const T> scores) {
    return detail::is_strictly_increasing(score) && !logits.empty() ? logits : scores;
}

template <class S>
inline constexpr bool score_needs_logits = true;
template <class S>
    requires requires { requires std::same_as<const bool, decltype(S::needs_logits)>; }
inline constexpr bool score_needs_logits<S> = S::needs_logits;

}  // namespace detail

}  // namespace moe::inline MOE_ABI
