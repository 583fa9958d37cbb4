#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "../../routing.hpp"
#include "../gate/scores.hpp"
#include "../linear.hpp"

/// Losses that pull the loads of the experts together, each without its coefficient. Padding is left out of what they
/// are given: of the logits, the counts and the numbers of tokens. A batch of no tokens has the loss 0.
namespace moe::inline MOE_ABI::reference {

/// A loss of the logits of some tokens.
struct LogitLoss {
    double value = 0;
    std::vector<Vector> d_logits{};  // of each token
};

/// How many choices fell on each expert, dropped ones too: before capacity. `first_only`: of each token's first choice,
/// which is what GShard (Lepikhin et al. 2020, 2006.16668, algorithm 1) counts.
[[nodiscard]] inline Vector counts_of(const std::vector<Choice>& choices, std::size_t n_experts,
                                      bool first_only = false) {
    Vector counts(n_experts, 0.0);
    for (const Choice& choice : choices) {
        for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
            const ExpertId e = choice.experts[slot];
            if (e != no_expert && (slot == 0 || !first_only)) {
                counts[static_cast<std::size_t>(e < 0 ? dropped(e) : e)] += 1;
            }
        }
    }
    return counts;
}

struct LoadBalance {
    double top_k = 1;              // what the counts of a token sum to; 1: the value at balance is that sum itself
    Score score = Score::softmax;  // sigmoid, sqrt_softplus
    double epsilon = 0;            // of the sum of the scores
};

/// The logarithm of a score above 0, and its derivative by the logit.
[[nodiscard]] inline double log_score(Score score, double l) {
    if (score == Score::sigmoid) {
        return -softplus(-l);
    }
    if (score == Score::sqrt_softplus) {
        return 0.5 * (softplus(l) == 0 ? l : std::log(softplus(l)));
    }
    return l;
}
[[nodiscard]] inline double log_score_slope(Score score, double l) {
    if (score == Score::sigmoid) {
        return sigmoid(-l);
    }
    if (score == Score::sqrt_softplus) {
        return 0.5 * (softplus(l) == 0 ? 1 : sigmoid(l) / softplus(l));
    }
    return 1;
}

/// P(e) = score(l_e) / (sum over j of score(l_j) + epsilon), as a softmax of logarithms, so that an epsilon of 0 may be
/// used however small all scores are.
[[nodiscard]] inline Vector shares_of_scores(const LoadBalance& loss, const Vector& logits) {
    Vector logs;
    for (const double l : logits) {
        logs.push_back(log_score(loss.score, l));
    }
    logs.push_back(std::log(loss.epsilon));  // -infinity for 0
    Vector shares = softmax(logs);
    shares.pop_back();
    return shares;
}

/// E / (K T^2) * sum over e of n_e * sum over t of P_t(e), which is 1 at balance: Fedus et al. 2021 (2101.03961,
/// equations 4 to 6). `counts` (n_experts) and `n_tokens` are those of the same tokens, or of a global batch of which
/// these are a part: the values of its parts then add up to its value. Counts have no gradient.
[[nodiscard]] inline LogitLoss load_balance(const LoadBalance& loss, const std::vector<Vector>& logits,
                                            const Vector& counts, double n_tokens) {
    const double factor = static_cast<double>(counts.size()) / (loss.top_k * n_tokens * n_tokens);
    LogitLoss result;
    for (const Vector& token : logits) {
        const Vector p = shares_of_scores(loss, token);
        const double mean = dot(counts, p);
        Vector dl(token.size());
        for (std::size_t e = 0; e < token.size(); ++e) {
            dl[e] = factor * p[e] * log_score_slope(loss.score, token[e]) * (counts[e] - mean);
        }
        result.value += factor * mean;
        result.d_logits.push_back(dl);
    }
    return result;
}

/// The mean of the loss over sequences, each with counts of its own: DeepSeek-V3 (2412.19437, equations 17 to 20).
/// `lengths` of the sequences, which stand one after the other; empty ones count as sequences of loss 0.
[[nodiscard]] inline LogitLoss sequence_load_balance(const LoadBalance& loss, const std::vector<Vector>& logits,
                                                     const std::vector<Choice>& choices,
                                                     const std::vector<std::size_t>& lengths) {
    LogitLoss result;
    std::size_t first = 0;
    const double share = 1 / static_cast<double>(lengths.size());
    for (const std::size_t length : lengths) {
        const auto begin = static_cast<std::ptrdiff_t>(first);
        const auto end = static_cast<std::ptrdiff_t>(first + length);
        const std::vector<Vector> of_sequence(logits.begin() + begin, logits.begin() + end);
        const std::vector<Choice> made(choices.begin() + begin, choices.begin() + end);
        const Vector counts = counts_of(made, of_sequence.empty() ? 0 : of_sequence[0].size());
        const LogitLoss one = load_balance(loss, of_sequence, counts, static_cast<double>(length));
        result.value += share * one.value;
        for (const Vector& d : one.d_logits) {
            Vector scaled(d.size(), 0.0);
            add_scaled(scaled, share, d);
            result.d_logits.push_back(scaled);
        }
        first += length;
    }
    return result;
}

/// What Hugging Face's load_balancing_loss_func computes: the tokens of all layers as one batch, and not divided by K,
/// so that the value at balance is K. Layers may cancel out each other's imbalance in it. `logits[l]` and `choices[l]`
/// of the tokens of layer l; the gradients of all layers, one after the other.
[[nodiscard]] inline LogitLoss pooled_load_balance(const std::vector<std::vector<Vector>>& logits,
                                                   const std::vector<std::vector<Choice>>& choices) {
    std::vector<Vector> all_logits;
    std::vector<Choice> all_choices;
    for (std::size_t l = 0; l < logits.size(); ++l) {
        all_logits.insert(all_logits.end(), logits[l].begin(), logits[l].end());
        all_choices.insert(all_choices.end(), choices[l].begin(), choices[l].end());
    }
    const Vector counts = counts_of(all_choices, all_logits.empty() ? 0 : all_logits[0].size());
    return load_balance({}, all_logits, counts, static_cast<double>(all_logits.size()));
}

}  // namespace moe::inline MOE_ABI::reference
