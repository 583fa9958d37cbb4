#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <moe/gating/backward.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"

/// Backward passes of gates, and what differences of their own weights say of them.
namespace moe_test {

using Ids = std::vector<moe::ExpertId>;

/// What gate_backward adds to `d_logits`, with scratch of exactly the stated size, full of NaN.
template <class T, class G>
void add_gradient(const G& gate, const std::vector<T>& logits, std::size_t n_experts, const Chosen<T>& chosen,
                  const std::vector<T>& d_weights, std::vector<T>& d_logits, moe::TokenContext context = {},
                  const Ids& dropped = {}) {
    std::vector<T> scratch(moe::backward_scratch_size(std::max(n_experts, logits.size())),
                           std::numeric_limits<T>::quiet_NaN());
    moe::gate_backward<T>(gate, logits, {chosen.experts, chosen.weights, dropped, context, scratch}, d_weights,
                          d_logits);
}

template <class T, class G>
std::vector<T> gradient(const G& gate, const std::vector<T>& logits, std::size_t n_experts, const Chosen<T>& chosen,
                        const std::vector<T>& d_weights, moe::TokenContext context = {}, const Ids& dropped = {}) {
    std::vector<T> d_logits(logits.size());
    add_gradient(gate, logits, n_experts, chosen, d_weights, d_logits, context, dropped);
    return d_logits;
}

/// Of what the gate chooses.
template <class T, class G>
std::vector<T> gradient(const G& gate, const std::vector<T>& logits, const std::vector<T>& d_weights) {
    return gradient(gate, logits, logits.size(), choose<T>(gate, logits), d_weights);
}

inline std::vector<double> random_doubles(Dice& dice, std::size_t n, float low, float high) {
    std::vector<double> values(n);
    for (double& value : values) {
        value = static_cast<double>(dice.uniform(low, high));
    }
    return values;
}

inline double most(const std::vector<double>& values) {
    double most = 0;
    for (const double value : values) {
        most = std::max(most, std::abs(value));
    }
    return most;
}

/// Counts what was compared, so that nothing passes by comparing nothing; `error` is the first that is wrong.
struct Tally {
    std::size_t compared = 0;
    std::size_t skipped = 0;   ///< another choice within a step
    std::size_t learning = 0;  ///< gradients that are not 0
    std::string error;

    void fail(const std::string& what) { error = error.empty() ? what : error; }
};

/// Holds the gradient of one logit against the central difference of <d_weights, weights>, where `loss(logit)` gives
/// that, or nothing where the choice is another one.
template <class Loss>
void compare_slope(Tally& tally, const std::string& name, double gradient, double logit, double tolerance,
                   const Loss& loss) {
    const double step = 1e-5 * std::max(1.0, std::abs(logit));
    const std::optional<double> before = loss(logit - step);
    const std::optional<double> after = loss(logit + step);
    if (!before || !after) {
        ++tally.skipped;
        return;
    }
    ++tally.compared;
    tally.learning += gradient != 0;
    const double slope = (*after - *before) / ((logit + step) - (logit - step));
    if (!(std::abs(slope - gradient) <= tolerance)) {
        tally.fail(name + ": the gradient is " + std::to_string(gradient) + ", the difference " +
                   std::to_string(slope));
    }
}

/// A token gate at `logits` in double against differences, and float against double.
template <class G>
void compare_token(Tally& tally, const std::string& name, const G& gate, const std::vector<double>& logits,
                   std::size_t n_experts, Dice& dice, moe::TokenContext context = {}) {
    const Chosen<double> chosen = choose<double>(gate, logits, n_experts, context);
    const std::vector<double> d_weights = random_doubles(dice, chosen.experts.size(), -1, 1);
    const std::vector<double> d_logits = gradient(gate, logits, n_experts, chosen, d_weights, context);
    const double size = most(chosen.weights) * most(d_weights);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        compare_slope(tally, name, d_logits[i], logits[i], 1e-6 * most(d_logits) + 1e-9 * size,
                      [&](double logit) -> std::optional<double> {
                          std::vector<double> moved = logits;
                          moved[i] = logit;
                          const Chosen<double> again = choose<double>(gate, moved, n_experts, context);
                          if (again.experts != chosen.experts) {
                              return std::nullopt;
                          }
                          double loss = 0;
                          for (std::size_t slot = 0; slot < d_weights.size(); ++slot) {
                              loss += d_weights[slot] * again.weights[slot];
                          }
                          return loss;
                      });
    }
    const std::vector<float> narrow(logits.begin(), logits.end());
    const Chosen<float> in_float = choose<float>(gate, narrow, n_experts, context);
    if (in_float.experts != chosen.experts) {
        ++tally.skipped;
        return;
    }
    const std::vector<float> d_narrow =
        gradient(gate, narrow, n_experts, in_float, std::vector<float>(d_weights.begin(), d_weights.end()), context);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (!(std::abs(static_cast<double>(d_narrow[i]) - d_logits[i]) <= 1e-5 * (most(d_logits) + size))) {
            tally.fail(name + ": in float the gradient is " + std::to_string(d_narrow[i]) + ", in double " +
                       std::to_string(d_logits[i]));
        }
    }
}

/// A batch gate, token by token, against differences of the weights of all that have a place.
template <class G>
void compare_batch(Tally& tally, const std::string& name, const G& gate, const std::vector<double>& logits,
                   std::size_t n_tokens, Dice& dice, const BatchFacts& facts = {}) {
    const std::size_t n = logits.size() / n_tokens;
    const std::size_t n_experts = moe::gate_n_experts(gate, n);
    const ChosenRows<double> rows = choose_batch<double>(gate, logits, n_tokens, n, facts);
    const std::vector<double> d_rows = random_doubles(dice, rows.experts.size(), -1, 1);
    const auto loss_of = [&](const ChosenRows<double>& of) {
        double loss = 0;
        for (std::size_t i = 0; i < of.experts.size(); ++i) {
            loss += of.experts[i] >= 0 ? d_rows[i] * of.weights[i] : 0;
        }
        return loss;
    };
    for (std::size_t t = 0; t < n_tokens; ++t) {
        if (!facts.valid.empty() && facts.valid[t] == 0) {
            continue;
        }
        const Chosen<double> kept = rows.kept(t);
        std::vector<double> d_weights;
        Ids dropped;
        for (std::size_t i = t * rows.max_per_token; i < (t + 1) * rows.max_per_token; ++i) {
            if (rows.experts[i] >= 0) {
                d_weights.push_back(d_rows[i]);
            } else if (rows.experts[i] != moe::no_expert) {
                dropped.push_back(moe::dropped(rows.experts[i]));
            }
        }
        const auto first = logits.begin() + static_cast<std::ptrdiff_t>(t * n);
        const std::vector<double> row(first, first + static_cast<std::ptrdiff_t>(n));
        const moe::TokenContext context{-1, facts.first_position + t};
        const std::vector<double> d_logits = gradient(gate, row, n_experts, kept, d_weights, context, dropped);
        const double size = most(kept.weights) * most(d_weights) + 1;
        for (std::size_t i = 0; i < n; ++i) {
            compare_slope(tally, name, d_logits[i], row[i], 1e-6 * most(d_logits) + 1e-9 * size,
                          [&](double logit) -> std::optional<double> {
                              std::vector<double> moved = logits;
                              moved[t * n + i] = logit;
                              const ChosenRows<double> again = choose_batch<double>(gate, moved, n_tokens, n, facts);
                              return again.experts == rows.experts ? std::optional(loss_of(again)) : std::nullopt;
                          });
        }
    }
}

}  // namespace moe_test
