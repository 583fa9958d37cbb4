#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>

#include "../../core/index.hpp"
#include "../../core/matrix_view.hpp"

namespace moe::inline MOE_ABI::detail {

/// Assigns each of T tokens to one of E experts, floor(T / E) or ceil(T / E) tokens each, with a sum of benefits at
/// most (T + E) eps below the greatest: the auction algorithm of Bertsekas 1988, "The auction algorithm: a distributed
/// relaxation method for the assignment problem", with the similar objects and persons of Bertsekas and Castanon 1989,
/// "The auction algorithm for the transportation problem", and scaling of epsilon.
///
/// Every expert has ceil(T / E) slots, each with a price. A token without a slot bids for the cheapest slot of the
/// expert that gives it most, benefit less price; it offers so much that this expert is eps less worth to it than the
/// next best, and whoever had the slot bids again. If E does not divide T, one slot of some experts must stay empty:
/// dummies take these, E - T mod E of them, at most one an expert, each paying the same price. Those without a slot
/// take the cheapest of experts without a dummy, and raise the price of all dummies to eps above what the next would
/// have cost. Prices only rise, so at the end no token gains more than eps elsewhere, and no expert with a dummy is
/// more than eps dearer than one without: what the dual of the problem asks, up to eps a token and a dummy. (Dummies
/// that bid against each other, one by one, raised prices by eps at a time: for small eps, forever.)
///
/// Prices are double whatever T is. The last eps is at least 2^-40 of the range of the benefits, so that prices, which
/// stay within a few times that range in each of the rounds, never absorb it and each bid raises one: the auction ends.
template <class T>
class Auction {
public:
    /// `benefits` (T, E) with at least one token, finite. Memory: `scratch` of 2 T + 5 E + 1 values, `order` of
    /// 2 (T + E) entries.
    Auction(MatrixView<const T> benefits, std::span<T> scratch, std::span<ExpertId> order)
        : benefits_(benefits),
          n_experts_(benefits.cols()),
          slots_each_(divide_up(benefits.rows(), n_experts_)),
          n_dummies_(slots_each_ * n_experts_ - benefits.rows()),
          owners_(order.first(slots_each_ * n_experts_)),
          bidders_(order.subspan(owners_.size(), benefits.rows())),
          free_of_dummies_(order.subspan(owners_.size() + bidders_.size(), n_experts_)) {
        // Doubles in the memory of T, from the first address on that is aligned to them, then ids.
        const std::size_t n_doubles = owners_.size() + n_experts_;
        void* memory = scratch.data();
        std::size_t bytes = scratch.size_bytes();
        auto* const doubles =
            static_cast<double*>(std::align(alignof(double), n_doubles * sizeof(double), memory, bytes));
        std::uninitialized_default_construct_n(doubles, n_doubles);
        prices_ = {doubles, owners_.size()};
        costs_ = {doubles + owners_.size(), n_experts_};
        auto* const ids = reinterpret_cast<ExpertId*>(doubles + n_doubles);
        std::uninitialized_default_construct_n(ids, n_experts_);
        sizes_ = {ids, n_experts_};
        std::fill(costs_.begin(), costs_.end(), 0.0);
    }

    /// `low` and `high` bound the benefits. The first round's eps is a quarter of their range, each further round's a
    /// quarter of the last, down to the one wanted; prices pass from round to round.
    void run(double low, double high, double epsilon) {
        low_ = low;
        const double range = high - low;
        const double last = (std::max)(epsilon, range * 0x1p-40);
        for (double eps = range / 4; eps > last; eps /= 4) {
            run_round(eps);
        }
        run_round(last);
    }

    /// Calls take(token, expert) for each pair of the assignment.
    template <class Take>
    void for_each_pair(Take&& take) const {
        for (std::size_t e = 0; e < n_experts_; ++e) {
            for (std::size_t i = 0; i < size(e); ++i) {
                take(static_cast<std::size_t>(owners_[e * slots_each_ + i]), e);
            }
        }
    }

private:
    static constexpr ExpertId nobody = -1;

    [[nodiscard]] std::size_t size(std::size_t e) const { return static_cast<std::size_t>(sizes_[e]); }
    [[nodiscard]] bool has_dummy(std::size_t e) const { return size(e) < slots_each_; }

    void run_round(double eps) {
        for (std::size_t e = 0; e < n_experts_; ++e) {
            std::fill_n(prices_.begin() + static_cast<std::ptrdiff_t>(e * slots_each_), slots_each_, costs_[e]);
            sizes_[e] = static_cast<ExpertId>(slots_each_);
        }
        std::fill(owners_.begin(), owners_.end(), nobody);
        for (std::size_t t = 0; t < bidders_.size(); ++t) {
            bidders_[bidders_.size() - 1 - t] = static_cast<ExpertId>(t);
        }
        n_bidders_ = bidders_.size();
        n_bidding_dummies_ = n_dummies_;
        dummy_price_ = -std::numeric_limits<double>::infinity();
        while (n_bidders_ + n_bidding_dummies_ > 0) {
            if (n_bidders_ > 0) {
                bid(bidders_[--n_bidders_], eps);
            } else {
                place_dummies(eps);
            }
        }
    }

    void bid(ExpertId token, double eps) {
        constexpr double least = -std::numeric_limits<double>::infinity();
        const T* const benefits = benefits_.row(static_cast<std::size_t>(token));
        std::size_t best = 0;
        double first = least;
        double second = least;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            const double value = static_cast<double>(benefits[e]) - low_ - costs_[e];
            if (value > first) {
                second = std::exchange(first, value);
                best = e;
            } else {
                second = (std::max)(second, value);
            }
        }
        // With one expert there is none to overbid.
        const double price = costs_[best] + (n_experts_ > 1 ? first - second : 0) + eps;
        if (has_dummy(best) && costs_[best] == dummy_price_) {
            ++n_bidding_dummies_;
            ++sizes_[best];
        } else {
            release(owners_[best * slots_each_]);
            sink_hole(best);
        }
        rise(best, token, price);
        update_cost(best);
    }

    // All dummies without a slot at once.
    void place_dummies(double eps) {
        std::size_t count = 0;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            if (!has_dummy(e)) {
                free_of_dummies_[count++] = static_cast<ExpertId>(e);
            }
        }
        // There are fewer dummies than experts, and so one expert more than is needed.
        const auto next = free_of_dummies_.begin() + static_cast<std::ptrdiff_t>(n_bidding_dummies_);
        std::nth_element(free_of_dummies_.begin(), next, free_of_dummies_.begin() + static_cast<std::ptrdiff_t>(count),
                         [&](ExpertId a, ExpertId b) {
                             const double x = costs_[static_cast<std::size_t>(a)];
                             const double y = costs_[static_cast<std::size_t>(b)];
                             return x < y || (x == y && a < b);
                         });
        dummy_price_ = (std::max)(dummy_price_, costs_[static_cast<std::size_t>(*next)] + eps);
        for (auto it = free_of_dummies_.begin(); it != next; ++it) {
            const auto e = static_cast<std::size_t>(*it);
            release(owners_[e * slots_each_]);
            sink_hole(e);
            --sizes_[e];
        }
        n_bidding_dummies_ = 0;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            update_cost(e);
        }
    }

    void release(ExpertId owner) {
        if (owner != nobody) {
            bidders_[n_bidders_++] = owner;
        }
    }

    void update_cost(std::size_t e) {
        const double cheapest = size(e) > 0 ? prices_[e * slots_each_] : std::numeric_limits<double>::infinity();
        costs_[e] = has_dummy(e) ? (std::min)(cheapest, dummy_price_) : cheapest;
    }

    // The slots of an expert that no dummy has form a heap, the cheapest in front. Takes that one out, which leaves the
    // last place of the heap to be filled or given up.
    void sink_hole(std::size_t expert) {
        const std::size_t n = size(expert);
        double* const prices = prices_.data() + expert * slots_each_;
        ExpertId* const owners = owners_.data() + expert * slots_each_;
        const double price = prices[n - 1];
        const ExpertId owner = owners[n - 1];
        std::size_t i = 0;
        for (std::size_t child = 1; child < n - 1; child = 2 * i + 1) {
            child += child + 1 < n - 1 && prices[child + 1] < prices[child] ? 1U : 0U;
            if (price <= prices[child]) {
                break;
            }
            prices[i] = prices[child];
            owners[i] = owners[child];
            i = child;
        }
        prices[i] = price;
        owners[i] = owner;
    }

    // Fills the last place of the heap.
    void rise(std::size_t expert, ExpertId owner, double price) {
        double* const prices = prices_.data() + expert * slots_each_;
        ExpertId* const owners = owners_.data() + expert * slots_each_;
        std::size_t i = size(expert) - 1;
        for (std::size_t parent = (i - 1) / 2; i > 0 && price < prices[parent]; parent = (i - 1) / 2) {
            prices[i] = prices[parent];
            owners[i] = owners[parent];
            i = parent;
        }
        prices[i] = price;
        owners[i] = owner;
    }

    MatrixView<const T> benefits_;
    std::size_t n_experts_;
    std::size_t slots_each_;
    std::size_t n_dummies_;
    std::span<ExpertId> owners_;           // (n_experts * slots_each) the token of each slot, or nobody
    std::span<ExpertId> bidders_;          // (n_tokens) a stack of the tokens without a slot
    std::span<ExpertId> free_of_dummies_;  // (n_experts)
    std::span<double> prices_{};           // (n_experts * slots_each) a heap an expert
    std::span<double> costs_{};            // (n_experts) the price of the cheapest slot
    std::span<ExpertId> sizes_{};          // (n_experts) of each heap: a dummy has the slot that is missing
    double low_ = 0;                       // subtracted from each benefit, lest a common offset absorbs a price
    double dummy_price_ = 0;               // of every slot that a dummy has
    std::size_t n_bidders_ = 0;
    std::size_t n_bidding_dummies_ = 0;
};

}  // namespace moe::inline MOE_ABI::detail
