#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../../core/index.hpp"
#include "../../core/random.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// In which order the choices of a group queue for the places of their experts. Ties go to the earlier token, then to
/// the earlier choice; NaN weights come last.
enum class CapacityOrder : unsigned char {
    position,        ///< token by token, all choices of a token before those of the next: fastmoe
    slot_major,      ///< all first choices before all second ones, each by position: GShard, Mesh TensorFlow, Switch
    weight,          ///< the greatest weight first: the drop policy "probs" of Megatron and DeepSpeed
    token_priority,  ///< as slot_major, but tokens by their greatest weight: V-MoE's batch priority (2106.05974, 4.1)
    random,          ///< by a number drawn for each choice: DeepSpeed's random token selection
};

namespace detail {

/// The queues of one group of tokens, `count` rows of a batch from row `first` on. No allocation: it uses the order and
/// scratch of the selection.
template <class T>
class CapacityQueue {
public:
    CapacityQueue(const BatchSelection<T>& rows, std::size_t first, std::size_t count)
        : rows_(rows), first_(first), n_tokens_(count), width_(rows.experts.cols()) {}

    /// Valid tokens of the group.
    [[nodiscard]] std::size_t n_valid() const {
        std::size_t count = 0;
        for (std::size_t t = first_; t < first_ + n_tokens_; ++t) {
            count += rows_.is_valid(t) ? 1U : 0U;
        }
        return count;
    }

    /// Every choice of an expert below `n_limited` that finds none of its `places` left becomes dropped.
    void fill(std::size_t places, std::size_t n_limited, CapacityOrder order, std::uint64_t seed) {
        places_ = places;
        used_ = rows_.order.last(rows_.n_experts).first(n_limited);
        std::fill(used_.begin(), used_.end(), ExpertId{0});
        switch (order) {
            case CapacityOrder::position: return by_position();
            case CapacityOrder::slot_major: return by_slot();
            case CapacityOrder::weight: return by_weight();
            case CapacityOrder::token_priority: return by_priority();
            case CapacityOrder::random: return by_number(seed);
        }
    }

private:
    void take(std::size_t t, std::size_t slot) {
        ExpertId& expert = rows_.experts(t, slot);
        if (expert < 0 || static_cast<std::size_t>(expert) >= used_.size()) {
            return;
        }
        ExpertId& used = used_[static_cast<std::size_t>(expert)];
        if (static_cast<std::size_t>(used) < places_) {
            ++used;
        } else {
            expert = dropped(expert);
        }
    }

    void by_position() {
        for (std::size_t t = first_; t < first_ + n_tokens_; ++t) {
            for (std::size_t slot = 0; slot < width_; ++slot) {
                take(t, slot);
            }
        }
    }

    void by_slot() {
        for (std::size_t slot = 0; slot < width_; ++slot) {
            for (std::size_t t = first_; t < first_ + n_tokens_; ++t) {
                take(t, slot);
            }
        }
    }

    void by_weight() {
        const std::span<ExpertId> choices = list_choices();
        std::sort(choices.begin(), choices.end(), [this](ExpertId a, ExpertId b) {
            return before(rows_.weights(token_of(a), slot_of(a)), rows_.weights(token_of(b), slot_of(b)), a, b);
        });
        take_all(choices);
    }

    void by_number(std::uint64_t seed) {
        const std::span<ExpertId> choices = list_choices();
        const auto number = [&](ExpertId choice) {
            return random_bits(random_stream(seed, rows_.context(token_of(choice)).position), slot_of(choice));
        };
        std::sort(choices.begin(), choices.end(), [&](ExpertId a, ExpertId b) {
            const std::uint64_t x = number(a);
            const std::uint64_t y = number(b);
            return x < y || (x == y && a < b);
        });
        take_all(choices);
    }

    void by_priority() {
        const std::span<T> greatest = rows_.scratch.first(n_tokens_);
        const std::span<ExpertId> tokens = rows_.order.first(n_tokens_);
        for (std::size_t i = 0; i < n_tokens_; ++i) {
            tokens[i] = static_cast<ExpertId>(i);
            greatest[i] = greatest_weight(first_ + i);
        }
        std::sort(tokens.begin(), tokens.end(), [&](ExpertId a, ExpertId b) {
            return before(greatest[static_cast<std::size_t>(a)], greatest[static_cast<std::size_t>(b)], a, b);
        });
        for (std::size_t slot = 0; slot < width_; ++slot) {
            for (const ExpertId token : tokens) {
                take(first_ + static_cast<std::size_t>(token), slot);
            }
        }
    }

    /// The greatest weight of the choices of token t, NaN where all are or there are none.
    [[nodiscard]] T greatest_weight(std::size_t t) const {
        T greatest = std::numeric_limits<T>::quiet_NaN();
        for (std::size_t slot = 0; slot < width_ && rows_.experts(t, slot) != no_expert; ++slot) {
            greatest = precedes(rows_.weights(t, slot), greatest) ? rows_.weights(t, slot) : greatest;
        }
        return greatest;
    }

    static bool before(T a, T b, ExpertId i, ExpertId j) { return precedes(a, b) || (!precedes(b, a) && i < j); }

    /// Numbers of the choices of the group, a token's side by side; those without an expert are left out.
    [[nodiscard]] std::span<ExpertId> list_choices() {
        std::size_t count = 0;
        for (std::size_t i = 0; i < n_tokens_ * width_; ++i) {
            const auto choice = static_cast<ExpertId>(i);
            if (rows_.experts(token_of(choice), slot_of(choice)) >= 0) {
                rows_.order[count++] = choice;
            }
        }
        return rows_.order.first(count);
    }

    void take_all(std::span<const ExpertId> choices) {
        for (const ExpertId choice : choices) {
            take(token_of(choice), slot_of(choice));
        }
    }

    [[nodiscard]] std::size_t token_of(ExpertId choice) const {
        return first_ + static_cast<std::size_t>(choice) / width_;
    }
    [[nodiscard]] std::size_t slot_of(ExpertId choice) const { return static_cast<std::size_t>(choice) % width_; }

    BatchSelection<T> rows_;
    std::size_t first_;
    std::size_t n_tokens_;
    std::size_t width_;
    std::size_t places_ = 0;
    std::span<ExpertId> used_{};  // (n_limited) places taken
};

}  // namespace detail

}  // namespace moe::inline MOE_ABI
