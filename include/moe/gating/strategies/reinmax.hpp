#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/error.hpp"
#include "../../core/random.hpp"
#include "../backward.hpp"
#include "../gumbel.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// One expert D a token, drawn from p = softmax(l), with weight 1, and a gradient of the draw itself: ReinMax (Liu et
/// al. 2023, "Bridging discrete and backpropagation: straight-through and beyond", 2304.08612). With g the gradients of
/// the weights of all experts and J(q) g = q * (g - <q, g>),
///
///     order 2:  dl = 2 J((p_t + D) / 2) g - J(p) g / 2        p_t = softmax(l / temperature)
///     order 1:  dl = J(p) g                                   the straight-through estimator
///
/// whose mean over the draws is the gradient of the mean loss where that is quadratic (temperature 1) or linear in D.
/// g asks what the others would have given, so while it is trained a token goes through every expert, with weight 0:
/// the cost of Dense. In evaluation it goes through the best one alone, and nothing is learned.
///
/// The draws belong to (seed, step, position of the token, expert): the same in every batch and in the backward pass; a
/// training loop counts `step` up. Experts: D, then the others in order of their index; those whose logit is -infinity
/// are left out. O(n_experts).
struct ReinMax {
    int order = 2;
    double temperature = 1;
    bool training = true;
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    [[nodiscard]] int max_per_token(int n_experts) const { return training ? n_experts : 1; }

    /// Throws Error(range): an order but 1 and 2, a temperature that is not positive and finite.
    void validate(std::size_t /*n_experts*/) const {
        ensure(order == 1 || order == 2, ErrorCode::range, "ReinMax: order is ", order, ", it must be 1 or 2");
        ensure(temperature > 0 && std::isfinite(temperature), ErrorCode::range, "ReinMax: temperature is ", temperature,
               ", it must be positive and finite");
    }

    /// `logits` (n_experts).
    template <std::floating_point T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const ExpertId drawn = draw(logits, context.position, out.scratch);
        out.experts[0] = drawn;
        out.weights[0] = 1;
        std::size_t count = 1;
        for (std::size_t e = 0; training && e < logits.size(); ++e) {
            if (static_cast<ExpertId>(e) != drawn && !detail::excludes(logits[e])) {
                out.experts[count] = static_cast<ExpertId>(e);
                out.weights[count++] = 0;
            }
        }
        return static_cast<int>(count);
    }

    /// Not the derivative of the weights, which are constants, but what is said above.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        if (!training) {
            return;
        }
        const std::size_t n = logits.size();
        const std::span<T> g = chosen.scratch.first(n);
        const std::span<T> p = chosen.scratch.subspan(n, n);
        const auto drawn = static_cast<std::size_t>(draw(logits, chosen.context.position, g));
        std::fill(g.begin(), g.end(), T(0));
        for (std::size_t i = 0; i < d_weights.size(); ++i) {
            g[static_cast<std::size_t>(chosen.experts[i])] += d_weights[i];
        }
        Softmax{}(logits, p);
        add_product<T>(logits, p, g, order == 1 ? T(1) : T(-0.5), d_logits);
        if (order == 2) {
            std::transform(logits.begin(), logits.end(), p.begin(),
                           [&](T l) { return static_cast<T>(static_cast<double>(l) / temperature); });
            Softmax{}(std::span<const T>(p), p);
            for (std::size_t e = 0; e < n; ++e) {
                p[e] = (p[e] + (e == drawn ? T(1) : T(0))) / 2;
            }
            add_product<T>(logits, p, g, T(2), d_logits);
        }
    }

private:
    /// D, in evaluation the best expert. NaN last.
    template <class T>
    [[nodiscard]] ExpertId draw(std::span<const T> logits, std::uint64_t position, std::span<T> memory) const {
        ExpertId best = no_expert;
        const std::span<T> keys = memory.first(logits.size());
        std::copy(logits.begin(), logits.end(), keys.begin());
        if (training) {
            moe::add_gumbel<T>(logits, random_stream(random_stream(seed, step), position), 0, 1, keys);
        }
        detail::top_k<T>(keys, logits, std::span(&best, 1));
        return best;
    }

    /// Adds factor J(q) g.
    template <class T>
    static void add_product(std::span<const T> logits, std::span<const T> q, std::span<const T> g, T factor,
                            std::span<T> d_logits) {
        T mean = 0;
        for (std::size_t e = 0; e < q.size(); ++e) {
            mean += detail::excludes(logits[e]) ? T(0) : q[e] * g[e];
        }
        for (std::size_t e = 0; e < q.size(); ++e) {
            if (!detail::excludes(logits[e])) {
                d_logits[e] += factor * (q[e] * (g[e] - mean));
            }
        }
    }
};

}  // namespace moe::inline MOE_ABI
