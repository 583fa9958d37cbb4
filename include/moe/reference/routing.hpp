#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "../core/index.hpp"

/// The definition of what the library computes: plain loops, in double, nothing shared with the code it checks. Tests
/// hold everything against it; read it to learn what a layer does. First the choice of experts, then (layer.hpp) the
/// rest.
namespace moe::inline MOE_ABI::reference {

using Vector = std::vector<double>;

/// exp(l_e) / sum_j exp(l_j).
[[nodiscard]] inline Vector softmax(const Vector& logits) {
    Vector scores = logits;
    double max = logits.empty() ? 0 : logits[0];
    for (const double l : logits) {
        max = l > max ? l : max;
    }
    double sum = 0;
    for (double& s : scores) {
        s = std::exp(s - max);
        sum += s;
    }
    for (double& s : scores) {
        s /= sum;
    }
    return scores;
}

[[nodiscard]] inline double sigmoid(double x) {
    return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
}

[[nodiscard]] inline double softplus(double x) {
    return x < 0 ? std::log1p(std::exp(x)) : x + std::log1p(std::exp(-x));
}

/// Indices of the k greatest scores, greatest first; of equal ones the lower index first; NaN after all others.
[[nodiscard]] inline std::vector<ExpertId> top_k(const Vector& scores, std::size_t k) {
    std::vector<ExpertId> order(scores.size());
    std::iota(order.begin(), order.end(), ExpertId{0});
    std::sort(order.begin(), order.end(), [&](ExpertId a, ExpertId b) {
        const double x = scores[static_cast<std::size_t>(a)];
        const double y = scores[static_cast<std::size_t>(b)];
        if (x == y || (std::isnan(x) && std::isnan(y))) {
            return a < b;
        }
        return std::isnan(y) || x > y;
    });
    order.resize(k);
    return order;
}

enum class Score { softmax, sigmoid, sqrt_softplus, identity, relu };
enum class Base { score, logits, sigmoid };
enum class Source { score, softmax_of_selected, sigmoid_of_selected };
enum class Norm { none, sum, clamped_sum, lp };

/// Every token takes the top_k experts of the highest selection score.
struct TokenChoiceRule {
    std::size_t top_k = 1;
    double softcap = 0;  // l <- c tanh(l / c); 0: off
    Score score = Score::softmax;
    Base select_on = Base::score;
    Vector selection_bias{};  // (n_experts) or empty
    std::size_t n_groups = 1;
    std::size_t groups_kept = 1;
    std::size_t group_members = 2;  // a group's score: sum of so many of its best
    double group_fill = -std::numeric_limits<double>::infinity();
    Source weight_from = Source::score;
    Norm norm = Norm::none;
    double norm_value = 0;  // eps, minimum or p
    double scale = 1;
    Vector per_expert_scale{};  // (n_experts) or empty
};

/// The experts of one token and the weight of each.
struct Choice {
    std::vector<ExpertId> experts;
    Vector weights;
};

[[nodiscard]] inline Vector scores_of(Score score, const Vector& logits) {
    Vector scores = score == Score::softmax ? softmax(logits) : logits;
    for (double& s : scores) {
        if (score == Score::sigmoid) {
            s = sigmoid(s);
        } else if (score == Score::sqrt_softplus) {
            s = std::sqrt(softplus(s));
        } else if (score == Score::relu && s < 0) {
            s = 0;
        }
    }
    return scores;
}

[[nodiscard]] inline Vector softcapped(const TokenChoiceRule& rule, Vector logits) {
    for (double& l : logits) {
        l = rule.softcap > 0 ? rule.softcap * std::tanh(l / rule.softcap) : l;
    }
    return logits;
}

/// What the choice looks at, before groups are masked: base + bias.
[[nodiscard]] inline Vector selection_scores(const TokenChoiceRule& rule, const Vector& logits) {
    Vector q = logits;
    if (rule.select_on == Base::score) {
        q = scores_of(rule.score, logits);
    } else if (rule.select_on == Base::sigmoid) {
        q = scores_of(Score::sigmoid, logits);
    }
    for (std::size_t e = 0; e < rule.selection_bias.size(); ++e) {
        q[e] += rule.selection_bias[e];
    }
    return q;
}

/// Whether an expert is excluded: its logit is -infinity.
[[nodiscard]] inline bool excluded(double logit) { return logit == -std::numeric_limits<double>::infinity(); }

/// The sum of the best `group_members` selection scores of each group of neighbours, without those excluded; NaN where
/// nobody is left.
[[nodiscard]] inline Vector group_scores(const TokenChoiceRule& rule, const Vector& q, const Vector& raw_logits) {
    const std::size_t members = q.size() / rule.n_groups;
    Vector sums(rule.n_groups, 0.0);
    for (std::size_t g = 0; g < rule.n_groups; ++g) {
        Vector group;
        for (std::size_t e = g * members; e < (g + 1) * members; ++e) {
            if (!excluded(raw_logits[e])) {
                group.push_back(q[e]);
            }
        }
        for (const ExpertId e : top_k(group, (std::min)(rule.group_members, group.size()))) {
            sums[g] += group[static_cast<std::size_t>(e)];
        }
        if (group.empty()) {
            sums[g] = std::numeric_limits<double>::quiet_NaN();
        }
    }
    return sums;
}

/// Which experts belong to the best `groups_kept` groups.
[[nodiscard]] inline std::vector<bool> in_kept_groups(const TokenChoiceRule& rule, const Vector& q,
                                                      const Vector& raw_logits) {
    if (rule.n_groups <= 1) {
        return std::vector<bool>(q.size(), true);
    }
    std::vector<bool> keep(q.size(), false);
    const std::size_t members = q.size() / rule.n_groups;
    for (const ExpertId g : top_k(group_scores(rule, q, raw_logits), rule.groups_kept)) {
        for (std::size_t e = static_cast<std::size_t>(g) * members; e < (static_cast<std::size_t>(g) + 1) * members;
             ++e) {
            keep[e] = true;
        }
    }
    return keep;
}

/// What the weights of a token are divided by.
[[nodiscard]] inline double divisor(const TokenChoiceRule& rule, const Vector& weights) {
    double sum = 0;
    double greatest = 0;
    for (const double w : weights) {
        sum += rule.norm == Norm::lp ? std::pow(std::abs(w), rule.norm_value) : w;
        greatest = std::abs(w) > greatest ? std::abs(w) : greatest;
    }
    switch (rule.norm) {
        case Norm::none: return 1;
        case Norm::sum: return sum + rule.norm_value;
        case Norm::clamped_sum: return sum < rule.norm_value ? rule.norm_value : sum;
        case Norm::lp: return std::isinf(rule.norm_value) ? greatest : std::pow(sum, 1 / rule.norm_value);
    }
    return std::numeric_limits<double>::quiet_NaN();
}

[[nodiscard]] inline Vector normalized(const TokenChoiceRule& rule, Vector weights) {
    const double n = divisor(rule, weights);
    for (double& w : weights) {
        w /= n;
    }
    return weights;
}

/// Whether the score of a greater logit is greater: always, of exact numbers. Of doubles it may be the same.
[[nodiscard]] inline bool increases(Score score) { return score != Score::relu; }

/// top_k of q; of equal ones, if `ties_by_logit`, that of the greater logit first; with those not `kept` behind all
/// others, in the order of their index, and those excluded behind these.
[[nodiscard]] inline std::vector<ExpertId> top_k_of_allowed(const Vector& q, const Vector& raw_logits, std::size_t k,
                                                            bool ties_by_logit, const std::vector<bool>& kept = {}) {
    Vector place(q.size(), 0);  // among the logits
    const std::vector<ExpertId> by_logit = top_k(raw_logits, raw_logits.size());
    for (std::size_t i = 0; i < by_logit.size(); ++i) {
        place[static_cast<std::size_t>(by_logit[i])] = static_cast<double>(i);
    }
    const auto level = [&](std::size_t e) { return excluded(raw_logits[e]) ? 2 : (kept.empty() || kept[e] ? 0 : 1); };
    std::vector<ExpertId> order(q.size());
    std::iota(order.begin(), order.end(), ExpertId{0});
    std::sort(order.begin(), order.end(), [&](ExpertId a, ExpertId b) {
        const auto x = static_cast<std::size_t>(a);
        const auto y = static_cast<std::size_t>(b);
        if (level(x) != level(y)) {
            return level(x) < level(y);
        }
        if (!kept.empty() && !kept[x] && !kept[y]) {
            return a < b;
        }
        const bool equal = q[x] == q[y] || (std::isnan(q[x]) && std::isnan(q[y]));
        if (equal) {
            return ties_by_logit ? place[x] < place[y] : a < b;
        }
        return std::isnan(q[y]) || q[x] > q[y];
    });
    order.resize(k);
    return order;
}

/// The weights of the experts chosen for a token.
[[nodiscard]] inline Choice weighed(const TokenChoiceRule& rule, const Vector& raw_logits,
                                    const std::vector<ExpertId>& experts) {
    const Vector logits = softcapped(rule, raw_logits);
    Choice choice{experts, {}};
    const Vector source = rule.weight_from == Source::score ? scores_of(rule.score, logits) : logits;
    for (const ExpertId e : choice.experts) {
        choice.weights.push_back(source[static_cast<std::size_t>(e)]);
    }
    if (rule.weight_from == Source::softmax_of_selected) {
        choice.weights = softmax(choice.weights);
    } else if (rule.weight_from == Source::sigmoid_of_selected) {
        choice.weights = scores_of(Score::sigmoid, choice.weights);
    }

    choice.weights = normalized(rule, choice.weights);
    for (std::size_t slot = 0; slot < experts.size(); ++slot) {
        choice.weights[slot] *= rule.scale;
        if (!rule.per_expert_scale.empty()) {
            choice.weights[slot] *= rule.per_expert_scale[static_cast<std::size_t>(choice.experts[slot])];
        }
    }
    return choice;
}

/// The experts of one token, in order of selection score, and their weights.
[[nodiscard]] inline Choice route(const TokenChoiceRule& rule, const Vector& raw_logits) {
    Vector q = selection_scores(rule, softcapped(rule, raw_logits));
    std::vector<bool> kept = in_kept_groups(rule, q, raw_logits);
    const bool filled = rule.n_groups > 1 && std::isfinite(rule.group_fill);
    if (filled) {
        for (std::size_t e = 0; e < q.size(); ++e) {
            q[e] = kept[e] ? q[e] : rule.group_fill;
        }
        kept.clear();  // all take part
    }
    const bool by_logit =
        rule.selection_bias.empty() && !filled && (rule.select_on != Base::score || increases(rule.score));
    return weighed(rule, raw_logits, top_k_of_allowed(q, raw_logits, rule.top_k, by_logit, kept));
}

}  // namespace moe::inline MOE_ABI::reference
