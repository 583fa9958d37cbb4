#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "../../core/index.hpp"
#include "../../core/random.hpp"
#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// Places an expert has among `experts` for `tokens` of `k` choices each: kinds of the gate's CapacityLimit.
enum class Places { fixed, factor_up, factor_down, per_choice, fraction };

[[nodiscard]] inline double capacity_of(Places kind, double value, double tokens, double k, double experts) {
    switch (kind) {
        case Places::fixed: return value;
        case Places::factor_up: return std::ceil(value * (k * tokens / experts));
        case Places::factor_down: return std::floor(value * (k * tokens / experts));
        case Places::per_choice: return k * std::ceil(value * (tokens / experts));
        case Places::fraction: return std::ceil(value * tokens);
    }
    return std::numeric_limits<double>::quiet_NaN();
}

enum class Queue { position, slot_major, weight, token_priority, random };

struct CapacityRule {
    double places = 0;
    Queue queue = Queue::position;
    std::uint64_t seed = 0;
    std::uint64_t first_position = 0;  // of the first token of the batch
    ExpertId unlimited_from = (std::numeric_limits<ExpertId>::max)();
};

/// One choice and what it queues by: the lesser key goes first, then the earlier token, then the earlier slot.
struct QueuedChoice {
    std::size_t token = 0;
    std::size_t slot = 0;
    Vector key{};
    std::uint64_t number = 0;
};

/// The place of a weight among others: greater ones first, NaN last.
[[nodiscard]] inline Vector descending(double weight) { return std::isnan(weight) ? Vector{1, 0} : Vector{0, -weight}; }

[[nodiscard]] inline QueuedChoice queued(const CapacityRule& rule, const Choice& choice, std::size_t token,
                                         std::size_t slot) {
    QueuedChoice queued{token, slot};
    if (rule.queue == Queue::weight) {
        queued.key = descending(choice.weights[slot]);
    } else if (rule.queue == Queue::slot_major) {
        queued.key = {static_cast<double>(slot)};
    } else if (rule.queue == Queue::token_priority) {
        Vector best = descending(std::numeric_limits<double>::quiet_NaN());
        for (const double weight : choice.weights) {
            best = (std::min)(best, descending(weight));
        }
        queued.key = {static_cast<double>(slot), best[0], best[1]};
    } else if (rule.queue == Queue::random) {
        queued.number = random_bits(random_stream(rule.seed, rule.first_position + token), slot);
    }
    return queued;
}

/// What the capacity leaves of the choices of tokens first..last - 1: each expert sorts those who chose it and drops
/// all behind its places. Negative entries take part in nothing.
inline void drop_group(const CapacityRule& rule, std::size_t n_experts, std::size_t first, std::size_t last,
                       std::vector<Choice>& choices) {
    const std::vector<Choice> before = choices;
    for (std::size_t e = 0; e < n_experts; ++e) {
        std::vector<QueuedChoice> queue;
        for (std::size_t t = first; t < last; ++t) {
            for (std::size_t slot = 0; slot < before[t].experts.size(); ++slot) {
                if (before[t].experts[slot] == static_cast<ExpertId>(e)) {
                    queue.push_back(queued(rule, before[t], t, slot));
                }
            }
        }
        std::sort(queue.begin(), queue.end(), [](const QueuedChoice& a, const QueuedChoice& b) {
            return std::tie(a.number, a.key, a.token, a.slot) < std::tie(b.number, b.key, b.token, b.slot);
        });
        const bool limited = static_cast<ExpertId>(e) < rule.unlimited_from;
        for (std::size_t place = 0; limited && place < queue.size(); ++place) {
            if (static_cast<double>(place) >= rule.places) {
                choices[queue[place].token].experts[queue[place].slot] = dropped(static_cast<ExpertId>(e));
            }
        }
    }
}

/// The weights of a token after the drops, normalised as `rule` says over the choices that are left, or `over_chosen`
/// over all that the gate made. Where they are not counted they stay.
[[nodiscard]] inline Choice normalized_after_drops(const TokenChoiceRule& rule, bool over_chosen, Choice choice) {
    Vector counted;
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        if (choice.experts[slot] >= 0 || over_chosen) {
            counted.push_back(choice.weights[slot]);
        }
    }
    const double n = divisor(rule, counted);
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        choice.weights[slot] /= choice.experts[slot] >= 0 || over_chosen ? n : 1;
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
