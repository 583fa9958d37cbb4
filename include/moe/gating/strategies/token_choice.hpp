#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

#include "../../core/alignment.hpp"
#include "../../core/borrowed.hpp"
#include "../../core/error.hpp"
#include "../../core/overlap.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// Group-limited routing (DeepSeek-V2, section 2.1.3; DeepSeek-V3, 2.1.2): the experts form `n_groups` groups of
/// neighbours, only those of the `kept` best groups take part, the others get `fill` as selection score.
struct Groups {
    int n_groups = 1;                                        ///< 1 (or 0): no groups
    int kept = 1;                                            ///< groups that take part
    int score_members = 2;                                   ///< a group's score: the sum of its so many best experts
    double fill = -std::numeric_limits<double>::infinity();  ///< -infinity: they rank below all others; 0 lets them win
                                                             ///< against negative scores
};

/// What the choice of experts looks at.
enum class SelectOn : unsigned char { score, logits, sigmoid };

/// What the weight of a chosen expert is made of, before normalisation.
enum class WeightFrom : unsigned char { score, softmax_of_selected, sigmoid_of_selected };

/// Every token takes the `top_k` experts it scores highest: Shazeer et al. 2017 (1701.06538), eq. 3 to 5, and what the
/// published models made of it. For the logits l of a token:
///
///     l <- c tanh(l / c)                              if c = logit_softcap is not 0
///     s = score(l),  q = s, l or sigmoid(l)           (select_on)
///     q <- q + selection_bias,  q <- groups(q)        the bias moves the choice, never a weight
///     chosen = top_k of q                             descending, NaN last
///     w = s, softmax or sigmoid of l over the chosen  (weight_from)
///     w <- normalize(w) * scale * per_expert_scale
///
/// Where no bias is added and no group filled with a finite score, experts are ranked by l instead of a q that
/// increases with it (see ScoreFunction): the order of exact arithmetic, also where q saturates. Ties go to the lower
/// expert.
///
/// An expert whose logit is -infinity (before the softcap) is ranked behind all others, whatever its bias and the fill
/// of its group, and adds nothing to the score of its group; a group of such experts only is ranked as if NaN. So a
/// mask holds as long as top_k experts are left.
///
/// Computed in the type of the logits. O(n_experts + h top_k) a token, h insertions as in top_k.hpp; no allocation.
template <class Score = Softmax>
struct TokenChoice {
    Score score{};
    int top_k = 1;
    Normalize normalize{};
    double scale = 1;
    Borrowed<const float> selection_bias{};    ///< (n_experts) or empty
    Borrowed<const float> per_expert_scale{};  ///< (n_experts) or empty
    double logit_softcap = 0;                  ///< 0: off
    Groups groups{};
    SelectOn select_on = SelectOn::score;
    WeightFrom weight_from = WeightFrom::score;

    [[nodiscard]] int max_per_token() const { return top_k; }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return moe::overlapped(memory, {{"the selection bias", bytes_of(selection_bias)},
                                        {"per_expert_scale", bytes_of(per_expert_scale)}});
    }

    /// Throws Error for settings that cannot be; the text names the values.
    void validate(std::size_t n_experts) const;

    /// Chooses for one token; returns top_k. `logits` (n_experts), `out` as selection.hpp states.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    int select(std::span<const T> logits, BasicSelection<T> out) const;

    /// The weights that `experts`, given by somebody else, have by this rule: see WeighingGate.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    void weigh(std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) const;

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return {.per_expert_scale = per_expert_scale}; }

    /// See DifferentiableGate. O(n_experts).
    template <std::floating_point T>
        requires DifferentiableScore<Score, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const;

private:
    template <class T>
    [[nodiscard]] std::span<const T> softcapped(std::span<const T> logits, std::span<T> memory) const;
    void validate_groups(std::size_t n_experts) const;
    [[nodiscard]] bool ranks_by_logit() const;
    template <class T>
    void limit_groups(std::span<T> keys, std::span<const T> raw, std::span<T> levels, std::span<ExpertId> order) const;
    template <class T>
    void weigh_chosen(std::span<const ExpertId> chosen, std::span<const T> logits, std::span<const T> scores,
                      std::span<T> weights) const;
    template <class T>
    void backward_of_softcapped(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                                std::span<T> d_logits) const;
};

template <class Score>
void TokenChoice<Score>::validate(std::size_t n_experts) const {
    ensure(top_k >= 1, ErrorCode::range, "TokenChoice: top_k is ", top_k, ", it must be at least 1");
    ensure(std::cmp_less_equal(top_k, n_experts), ErrorCode::range, "TokenChoice: top_k ", top_k, " exceeds the ",
           n_experts, " experts");
    detail::validate_score(score);
    normalize.validate();
    ensure(select_on <= SelectOn::sigmoid, ErrorCode::range, "TokenChoice: select_on has no value ",
           static_cast<int>(select_on));
    ensure(weight_from <= WeightFrom::sigmoid_of_selected, ErrorCode::range, "TokenChoice: weight_from has no value ",
           static_cast<int>(weight_from));
    detail::check_scale("TokenChoice", scale);
    // Infinite or 0 as a float, it would turn logits into NaN.
    using Float = std::numeric_limits<float>;
    ensure(logit_softcap == 0 || (logit_softcap >= static_cast<double>((Float::min)()) &&
                                  logit_softcap <= static_cast<double>((Float::max)())),
           ErrorCode::range, "TokenChoice: logit_softcap is ", logit_softcap,
           ", it must be 0 (off) or positive and finite in float");
    ensure(selection_bias.empty() || selection_bias.size() == n_experts, ErrorCode::shape,
           "TokenChoice: selection_bias has ", selection_bias.size(), " values for ", n_experts, " experts");
    ensure(per_expert_scale.empty() || per_expert_scale.size() == n_experts, ErrorCode::shape,
           "TokenChoice: per_expert_scale has ", per_expert_scale.size(), " values for ", n_experts, " experts");
    require_aligned(selection_bias.data(), "TokenChoice", "selection_bias");
    require_aligned(per_expert_scale.data(), "TokenChoice", "per_expert_scale");
    validate_groups(n_experts);
}

template <class Score>
void TokenChoice<Score>::validate_groups(std::size_t n_experts) const {
    ensure(groups.n_groups >= 0, ErrorCode::range, "TokenChoice: n_groups is ", groups.n_groups,
           ", it must not be negative");
    if (groups.n_groups <= 1) {
        ensure(groups.kept <= 1, ErrorCode::range, "TokenChoice: ", groups.kept, " groups kept of ", groups.n_groups,
               "; without groups, kept stays 1");
        return;
    }
    const auto n_groups = static_cast<std::size_t>(groups.n_groups);
    ensure(n_experts % n_groups == 0, ErrorCode::range, "TokenChoice: ", n_groups, " groups do not divide ", n_experts,
           " experts");
    ensure(groups.kept >= 1 && groups.kept <= groups.n_groups, ErrorCode::range, "TokenChoice: ", groups.kept,
           " groups kept of ", n_groups, ", it must be 1..", n_groups);
    const std::size_t members = n_experts / n_groups;
    ensure(groups.score_members >= 1 && std::cmp_less_equal(groups.score_members, members), ErrorCode::range,
           "TokenChoice: score_members is ", groups.score_members, ", a group has ", members, " experts");
    const std::size_t left = static_cast<std::size_t>(groups.kept) * members;
    ensure(std::cmp_less_equal(top_k, left), ErrorCode::range, "TokenChoice: top_k ", top_k, " exceeds the ", left,
           " experts of the ", groups.kept, " groups kept");
    ensure(!std::isnan(groups.fill), ErrorCode::range, "TokenChoice: the fill of the groups is NaN");
}

template <class Score>
template <std::floating_point T>
    requires ScoreFunction<Score, T>
int TokenChoice<Score>::select(std::span<const T> logits, BasicSelection<T> out) const {
    const std::size_t n_experts = logits.size();
    const auto memory = [&](std::size_t part) { return out.scratch.subspan(part * n_experts, n_experts); };
    const std::span<const T> raw = logits;
    logits = softcapped<T>(logits, memory(0));
    const std::span<T> scores = memory(1);
    if (select_on == SelectOn::score || weight_from == WeightFrom::score) {
        score(logits, scores);
    }
    const std::span<T> keys = memory(2);
    if (select_on == SelectOn::sigmoid) {
        Sigmoid{}(logits, keys);
    } else {
        const std::span<const T> source = select_on == SelectOn::score ? std::span<const T>(scores) : logits;
        std::copy(source.begin(), source.end(), keys.begin());
    }
    for (std::size_t e = 0; e < selection_bias.size(); ++e) {
        keys[e] += static_cast<T>(selection_bias[e]);
    }
    const auto chosen = out.experts.first(static_cast<std::size_t>(top_k));
    if (groups.n_groups > 1) {
        const std::span<T> levels = memory(3);
        limit_groups(keys, raw, levels, out.order);
        detail::top_k_by(n_experts, chosen, [&](std::size_t a, std::size_t b) {
            return levels[a] != levels[b] ? levels[a] < levels[b] : detail::precedes(keys[a], keys[b]);
        });
    } else {
        detail::top_k<T>(ranks_by_logit() ? raw : std::span<const T>(keys), raw, chosen);
    }
    weigh_chosen<T>(chosen, logits, scores, out.weights.first(chosen.size()));
    return top_k;
}

template <class Score>
template <std::floating_point T>
    requires ScoreFunction<Score, T>
void TokenChoice<Score>::weigh(std::span<const T> logits, std::span<const ExpertId> experts,
                               BasicSelection<T> out) const {
    const std::size_t n_experts = logits.size();
    logits = softcapped<T>(logits, out.scratch.first(n_experts));
    const std::span<T> scores = out.scratch.subspan(n_experts, n_experts);
    if (weight_from == WeightFrom::score) {
        score(logits, scores);
    }
    weigh_chosen<T>(experts, logits, scores, out.weights.first(experts.size()));
}

/// The logits after the softcap, in `memory` if there is one.
template <class Score>
template <class T>
std::span<const T> TokenChoice<Score>::softcapped(std::span<const T> logits, std::span<T> memory) const {
    if (!(logit_softcap > 0)) {
        return logits;
    }
    const auto cap = static_cast<T>(logit_softcap);
    std::transform(logits.begin(), logits.end(), memory.begin(), [cap](T l) { return cap * std::tanh(l / cap); });
    return memory;
}

/// Whether what the choice looks at increases with the logit, strictly in exact arithmetic.
template <class Score>
bool TokenChoice<Score>::ranks_by_logit() const {
    const bool filled = groups.n_groups > 1 && std::isfinite(groups.fill);
    return selection_bias.empty() && !filled && (select_on != SelectOn::score || detail::is_strictly_increasing(score));
}

/// Makes `keys` what the experts are ranked by, inside their level: 0 those that take part, 1 those of masked groups, 2
/// those whose logit is -infinity.
template <class Score>
template <class T>
void TokenChoice<Score>::limit_groups(std::span<T> keys, std::span<const T> raw, std::span<T> levels,
                                      std::span<ExpertId> order) const {
    const std::span<T> group_scores = levels;  // first these, then those
    const std::span<const T> ranked = ranks_by_logit() ? raw : std::span<const T>(keys);
    const auto n_groups = static_cast<std::size_t>(groups.n_groups);
    const std::size_t members = keys.size() / n_groups;
    const auto group = [&](std::size_t g) { return keys.subspan(g * members, members); };
    for (std::size_t g = 0; g < n_groups; ++g) {
        const auto best = order.first(static_cast<std::size_t>(groups.score_members));
        const std::span<const T> members_raw = raw.subspan(g * members, members);
        const auto excluded = [&](ExpertId member) {
            return detail::excludes(members_raw[static_cast<std::size_t>(member)]);
        };
        detail::top_k<T>(ranked.subspan(g * members, members), members_raw, best);
        group_scores[g] = excluded(best[0]) ? std::numeric_limits<T>::quiet_NaN() : T(0);
        for (const ExpertId member : best) {
            if (!excluded(member)) {
                group_scores[g] += group(g)[static_cast<std::size_t>(member)];
            }
        }
    }
    // Ranking all groups, not only those kept, lists those to be masked behind them.
    const auto ranking = order.first(n_groups);
    detail::top_k<T>(group_scores.first(n_groups), ranking);
    std::copy(ranked.begin(), ranked.end(), keys.begin());
    std::fill(levels.begin(), levels.end(), T(0));
    for (const ExpertId masked : ranking.subspan(static_cast<std::size_t>(groups.kept))) {
        const std::size_t first = static_cast<std::size_t>(masked) * members;
        std::fill_n(keys.begin() + static_cast<std::ptrdiff_t>(first), members, static_cast<T>(groups.fill));
        if (groups.fill == -std::numeric_limits<double>::infinity()) {
            std::fill_n(levels.begin() + static_cast<std::ptrdiff_t>(first), members, T(1));
        }
    }
    for (std::size_t e = 0; e < raw.size(); ++e) {
        levels[e] = detail::excludes(raw[e]) ? T(2) : levels[e];
    }
}

template <class Score>
template <class T>
void TokenChoice<Score>::weigh_chosen(std::span<const ExpertId> chosen, std::span<const T> logits,
                                      std::span<const T> scores, std::span<T> weights) const {
    const std::span<const T> source = weight_from == WeightFrom::score ? scores : logits;
    std::transform(chosen.begin(), chosen.end(), weights.begin(),
                   [&](ExpertId e) { return source[static_cast<std::size_t>(e)]; });
    if (weight_from == WeightFrom::softmax_of_selected) {
        Softmax{}(std::span<const T>(weights), weights);
    } else if (weight_from == WeightFrom::sigmoid_of_selected) {
        Sigmoid{}(std::span<const T>(weights), weights);
    }
    normalize(weights);
    for (std::size_t slot = 0; slot < chosen.size(); ++slot) {
        weights[slot] *= static_cast<T>(scale);
        // those behind the last are weighed for WithShared
        if (const auto e = static_cast<std::size_t>(chosen[slot]); e < per_expert_scale.size()) {
            weights[slot] *= static_cast<T>(per_expert_scale[e]);
        }
    }
}

template <class Score>
template <std::floating_point T>
    requires DifferentiableScore<Score, T>
void TokenChoice<Score>::backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                                  std::span<T> d_logits) const {
    if (!(logit_softcap > 0)) {
        return backward_of_softcapped<T>(logits, chosen, d_weights, d_logits);
    }
    const std::size_t n = logits.size();
    const std::span<T> d_capped = chosen.scratch.subspan(n, n);
    std::fill(d_capped.begin(), d_capped.end(), T(0));
    Chosen<T> rest = chosen;
    rest.scratch = chosen.scratch.subspan(2 * n);
    backward_of_softcapped<T>(softcapped<T>(logits, chosen.scratch.first(n)), rest, d_weights, d_capped);
    for (std::size_t e = 0; e < n; ++e) {
        if (!detail::excludes(logits[e])) {  // 1 - tanh^2, where 1 - tanh^2 would lose its digits far from 0
            const T cosh = std::cosh(logits[e] / static_cast<T>(logit_softcap));
            d_logits[e] += d_capped[e] / cosh / cosh;
        }
    }
}

/// By the logits after the softcap.
template <class Score>
template <class T>
void TokenChoice<Score>::backward_of_softcapped(std::span<const T> logits, const Chosen<T>& chosen,
                                                std::span<const T> d_weights, std::span<T> d_logits) const {
    switch (weight_from) {
        case WeightFrom::score:
            return moe::weigh_backward<T>(score, normalize, scale, logits, chosen, d_weights, d_logits,
                                          per_expert_scale);
        case WeightFrom::softmax_of_selected:
            return moe::weigh_selected_backward<T>(Softmax{}, normalize, scale, logits, chosen, d_weights, d_logits,
                                                   per_expert_scale);
        case WeightFrom::sigmoid_of_selected:
            return moe::weigh_selected_backward<T>(Sigmoid{}, normalize, scale, logits, chosen, d_weights, d_logits,
                                                   per_expert_scale);
    }
}

}  // namespace moe::inline MOE_ABI
