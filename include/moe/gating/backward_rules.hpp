#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <span>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "backward.hpp"
#include "normalize.hpp"
#include "scores.hpp"
#include "top_k.hpp"

/// The pieces that the backward pass of most gates is made of, each the vector-Jacobian product of a step of the choice
/// of weights. What they write for gradients of logits is added. Computed in the type of the logits, sums in the order
/// of the forward pass; no allocation.
namespace moe::inline MOE_ABI {

namespace detail {

/// Adds slope(e) d_scores[e]. A gradient of 0 stays out, since its slope may be infinite or NaN; so does an excluded
/// expert, whose score is 0 whatever the others do.
template <class T, class Slope>
void add_elementwise(std::span<const T> logits, std::span<const T> d_scores, std::span<T> d_logits,
                     const Slope& slope) {
    for (std::size_t e = 0; e < logits.size(); ++e) {
        if (d_scores[e] != 0 && !detail::excludes(logits[e])) {
            d_logits[e] += slope(e) * d_scores[e];
        }
    }
}

/// p (d - <d, p>), for all experts: those that were not chosen compete, too.
template <class T>
void add_score_gradient(const Softmax&, std::span<const T> logits, std::span<const T> scores,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    T mean = 0;
    for (std::size_t e = 0; e < logits.size(); ++e) {
        mean += detail::excludes(logits[e]) ? T(0) : d_scores[e] * scores[e];
    }
    for (std::size_t e = 0; e < logits.size(); ++e) {
        if (!detail::excludes(logits[e])) {
            d_logits[e] += scores[e] * (d_scores[e] - mean);
        }
    }
}
/// s (1 - s), where 1 - s would lose its digits as s approaches 1.
template <class T>
void add_score_gradient(const Sigmoid&, std::span<const T> logits, std::span<const T> scores,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    detail::add_elementwise<T>(logits, d_scores, d_logits,
                               [&](std::size_t e) { return scores[e] * detail::sigmoid(-logits[e]); });
}
/// sigmoid(l) / (2 s), which approaches 0 where s does.
template <class T>
void add_score_gradient(const SqrtSoftplus&, std::span<const T> logits, std::span<const T> scores,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    detail::add_elementwise<T>(logits, d_scores, d_logits, [&](std::size_t e) {
        return scores[e] == 0 ? T(0) : detail::sigmoid(logits[e]) / (2 * scores[e]);
    });
}
/// 0 at 0, as in PyTorch; NaN stays.
template <class T>
void add_score_gradient(const ReluScore&, std::span<const T> logits, std::span<const T> /*scores*/,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    detail::add_elementwise<T>(logits, d_scores, d_logits, [&](std::size_t e) {
        return logits[e] > 0 ? T(1) : (logits[e] <= 0 ? T(0) : logits[e]);
    });
}
template <class T>
void add_score_gradient(const Identity&, std::span<const T> logits, std::span<const T> /*scores*/,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    detail::add_elementwise<T>(logits, d_scores, d_logits, [](std::size_t) { return T(1); });
}
template <class T>
void add_score_gradient(const Uniform&, std::span<const T>, std::span<const T>, std::span<const T>, std::span<T>) {}
template <class T>
void add_score_gradient(const RuntimeScore& score, std::span<const T> logits, std::span<const T> scores,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    const auto add = [&](const auto& named) {
        detail::add_score_gradient<T>(named, logits, scores, d_scores, d_logits);
    };
    switch (score.kind) {
        case ScoreKind::softmax: return add(Softmax{});
        case ScoreKind::sigmoid: return add(Sigmoid{});
        case ScoreKind::sqrt_softplus: return add(SqrtSoftplus{});
        case ScoreKind::identity: return add(Identity{});
        case ScoreKind::uniform: return;
        case ScoreKind::relu: return add(ReluScore{});
    }
    raise_error(ErrorCode::range, "RuntimeScore: no score function has the number ", static_cast<int>(score.kind));
}
/// A user's own.
template <class T, class Score>
    requires requires(const Score& score, std::span<const T> in, std::span<T> out) { score.backward(in, in, in, out); }
void add_score_gradient(const Score& score, std::span<const T> logits, std::span<const T> scores,
                        std::span<const T> d_scores, std::span<T> d_logits) {
    score.backward(logits, scores, d_scores, d_logits);
}

/// d[slot] = d_weights[slot], times the scale of its expert where it has one.
template <class T>
void scale_each(std::span<const ExpertId> experts, std::span<const T> d_weights,
                std::span<const float> per_expert_scale, std::span<T> d) {
    for (std::size_t slot = 0; slot < experts.size(); ++slot) {
        const auto e = static_cast<std::size_t>(experts[slot]);
        d[slot] = e < per_expert_scale.size() ? d_weights[slot] * static_cast<T>(per_expert_scale[e]) : d_weights[slot];
    }
}

/// Adds the gradients of the scales of experts, `values` being what is normalised: w = r scale v / n makes dr = dw
/// scale v / n, with nothing divided by r. A weight worth 0 stays out: where an adaptor took it away, v / n may be NaN.
template <class T>
void add_scale_gradients(const Normalize& normalize, double scale, std::span<const T> values, const Chosen<T>& chosen,
                         std::span<const T> d_weights, std::span<const float> per_expert_scale) {
    if (per_expert_scale.empty() || !chosen.gradients.wants_per_expert_scale()) {
        return;
    }
    const T divisor = normalize.divisor(values);
    for (std::size_t slot = 0; slot < values.size(); ++slot) {
        const auto e = static_cast<std::size_t>(chosen.experts[slot]);
        if (e < per_expert_scale.size() && d_weights[slot] != 0) {
            const T share = values[slot] / divisor * static_cast<T>(scale);
            chosen.gradients.add_per_expert_scale(e, static_cast<double>(d_weights[slot] * share));
        }
    }
}

/// Memory of a gate for ids: the part of somebody's values, uninitialised.
template <class T>
[[nodiscard]] std::span<ExpertId> ids_in(std::span<T> values) {
    static_assert(sizeof(ExpertId) <= sizeof(T) && alignof(ExpertId) <= alignof(T));
    auto* const ids = reinterpret_cast<ExpertId*>(values.data());
    std::uninitialized_default_construct_n(ids, values.size());
    return {ids, values.size()};
}

/// Calls f(i, slot) for each of `some` experts, slot being where it stands among `all`. Throws Error(range) for one
/// that does not. O(all.size()) where both are in one order.
template <class F>
void for_each_place(std::span<const ExpertId> some, std::span<const ExpertId> all, const F& f) {
    std::size_t slot = 0;
    for (std::size_t i = 0; i < some.size(); ++i) {
        std::size_t seen = 0;
        while (seen < all.size() && all[slot] != some[i]) {
            slot = slot + 1 < all.size() ? slot + 1 : 0;
            ++seen;
        }
        ensure(seen < all.size(), ErrorCode::range, "gate: its token went to expert ", some[i],
               ", which it does not choose in the backward pass; its settings must be those of the forward pass");
        f(i, slot);
        slot = slot + 1 < all.size() ? slot + 1 : 0;
    }
}

}  // namespace detail

/// A score function through which gradients pass: one of scores.hpp, or a user's with
///
///     void backward(std::span<const float> logits, std::span<const float> scores, std::span<const float> d_scores,
///                   std::span<float> d_logits) const;
///
/// which adds J^T d_scores to `d_logits`, (n_experts) each, and nothing to a logit of -infinity.
template <class S, class T = float>
concept DifferentiableScore = ScoreFunction<S, T> && requires(const S& score, std::span<const T> in, std::span<T> out) {
    detail::add_score_gradient<T>(score, in, in, in, out);
};

/// Turns the gradients `d` of the weights scale * normalize(values) into those of `values`. O(values.size()).
///
/// At the kink of a minimum the sum counts. Of a norm with p = infinity the greatest share what it gets, as in PyTorch.
template <class T>
void normalize_backward(const Normalize& normalize, double scale, std::span<const T> values, std::span<T> d) {
    const auto factor = static_cast<T>(scale);
    if (normalize.kind == Normalize::Kind::none) {
        for (T& value : d) {
            value *= factor;
        }
        return;
    }
    const T divisor = normalize.divisor(values);
    T sum = 0;   // of the values
    T mean = 0;  // <d, weights>
    for (std::size_t i = 0; i < d.size(); ++i) {
        sum += values[i];
        mean += d[i] * (factor * (values[i] / divisor));
    }
    if (normalize.kind == Normalize::Kind::clamped_sum && sum < static_cast<T>(normalize.value)) {
        mean = 0;
    }
    if (normalize.kind != Normalize::Kind::lp) {
        for (T& value : d) {
            value = (factor * value - mean) / divisor;
        }
        return;
    }
    const double p = normalize.value;
    const auto greatest =
        std::count_if(values.begin(), values.end(), [&](T value) { return std::abs(value) == divisor; });
    for (std::size_t i = 0; i < d.size(); ++i) {
        const auto size = static_cast<double>(std::abs(values[i] / divisor));
        T slope = 0;  // of the norm, by |value|
        if (std::isinf(p)) {
            slope = std::abs(values[i]) == divisor ? T(1) / static_cast<T>(greatest) : T(0);
        } else if (values[i] != 0) {
            slope = static_cast<T>(std::pow(size, p - 1));
        }
        d[i] = (factor * d[i] - mean * (values[i] < 0 ? -slope : slope)) / divisor;
    }
}

/// The rule of most gates: weights of the chosen = normalize(score(l)) * scale * per_expert_scale, the last only for
/// experts that have one, and gradients of its own in chosen.gradients. Nothing for a score that reads no logits. Takes
/// 3 parts of the scratch. O(n_experts).
template <class T, class Score>
    requires DifferentiableScore<Score, T>
void weigh_backward(const Score& score, const Normalize& normalize, double scale, std::span<const T> logits,
                    const Chosen<T>& chosen, std::span<const T> d_weights, std::span<T> d_logits,
                    std::span<const float> per_expert_scale = {}) {
    if (logits.empty() || (!detail::score_needs_logits<Score> && !chosen.gradients.wants_per_expert_scale())) {
        return;
    }
    const std::size_t n = logits.size();
    const std::size_t k = chosen.experts.size();
    const std::span<T> scores = chosen.scratch.first(n);
    const std::span<T> d = chosen.scratch.subspan(n, k);
    const std::span<T> values = chosen.scratch.subspan(2 * n, k);
    score(logits, scores);
    detail::scale_each<T>(chosen.experts, d_weights, per_expert_scale, d);
    for (std::size_t slot = 0; slot < k; ++slot) {
        values[slot] = scores[static_cast<std::size_t>(chosen.experts[slot])];
    }
    detail::add_scale_gradients<T>(normalize, scale, values, chosen, d_weights, per_expert_scale);
    moe::normalize_backward<T>(normalize, scale, values, d);
    const std::span<T> d_scores = chosen.scratch.subspan(2 * n, n);
    std::fill(d_scores.begin(), d_scores.end(), T(0));
    for (std::size_t slot = 0; slot < k; ++slot) {
        d_scores[static_cast<std::size_t>(chosen.experts[slot])] += d[slot];
    }
    detail::add_score_gradient<T>(score, logits, scores, d_scores, d_logits);
}

/// The same where the weights are normalize(score of the chosen logits alone), Softmax or Sigmoid: the other experts
/// get no gradient. Takes 4 parts of the scratch. O(chosen.experts.size()).
template <class T, class Score>
    requires DifferentiableScore<Score, T>
void weigh_selected_backward(const Score& score, const Normalize& normalize, double scale, std::span<const T> logits,
                             const Chosen<T>& chosen, std::span<const T> d_weights, std::span<T> d_logits,
                             std::span<const float> per_expert_scale = {}) {
    const std::size_t k = chosen.experts.size();
    const auto memory = [&](std::size_t part) { return chosen.scratch.subspan(part * k, k); };
    const std::span<T> selected = memory(0);
    const std::span<T> values = memory(1);
    const std::span<T> d = memory(2);
    const std::span<T> d_selected = memory(3);
    for (std::size_t slot = 0; slot < k; ++slot) {
        selected[slot] = logits[static_cast<std::size_t>(chosen.experts[slot])];
    }
    score(std::span<const T>(selected), values);
    detail::add_scale_gradients<T>(normalize, scale, values, chosen, d_weights, per_expert_scale);
    detail::scale_each<T>(chosen.experts, d_weights, per_expert_scale, d);
    moe::normalize_backward<T>(normalize, scale, values, d);
    std::fill(d_selected.begin(), d_selected.end(), T(0));
    detail::add_score_gradient<T>(score, selected, values, d, d_selected);
    for (std::size_t slot = 0; slot < k; ++slot) {
        d_logits[static_cast<std::size_t>(chosen.experts[slot])] += d_selected[slot];
    }
}

/// The rule of a gate whose weights are softmax(l) over all experts, of the chosen, as they are. O(n_experts).
template <class T>
void softmax_backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                      std::span<T> d_logits) {
    moe::weigh_backward<T>(Softmax{}, Normalize::none(), 1, logits, chosen, d_weights, d_logits);
}

}  // namespace moe::inline MOE_ABI
