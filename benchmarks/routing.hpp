#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <moe/gating/strategies/token_choice.hpp>

#include "shapes.hpp"

namespace bench {

/// How tokens spread over the experts.
enum class Routing : unsigned char {
    random,  ///< top_k different experts a token, all alike
    zipf,    ///< top_k different experts a token, the expert of rank r with probability proportional to 1 / r
    one,     ///< all assignments of all tokens to one expert: the same work, as unbalanced as it can be
};
[[nodiscard]] constexpr std::string_view routing_name(Routing routing) noexcept {
    constexpr std::string_view names[] = {"random", "zipf", "one"};
    return names[static_cast<unsigned>(routing)];
}

/// How often each expert is to be drawn, up to a factor; the number of an expert says nothing of its rank.
[[nodiscard]] std::vector<double> popularity(std::size_t n_experts, Routing routing);

/// The experts of every token of several batches: successive calls take other experts, as successive layers of a model
/// do, and so cannot find their weights in the cache. Depends on nothing but its arguments.
class RoutingTable {
public:
    RoutingTable(const Shape& shape, Routing routing, std::size_t tokens);

    [[nodiscard]] std::size_t variants() const noexcept { return variants_; }
    [[nodiscard]] std::span<const std::int32_t> experts() const noexcept { return experts_; }

    /// Rows of the table, in the order of a batch: the "token ids" that select it.
    [[nodiscard]] std::span<const std::int32_t> ids(std::size_t variant) const noexcept {
        return std::span<const std::int32_t>(ids_).subspan(variant * tokens_, tokens_);
    }

    /// Different experts that a batch goes to.
    [[nodiscard]] std::size_t distinct(std::size_t variant) const;
    [[nodiscard]] double mean_distinct() const;

private:
    std::size_t n_experts_;
    std::size_t top_k_;
    std::size_t tokens_;
    std::size_t variants_;
    std::vector<std::int32_t> experts_;
    std::vector<std::int32_t> ids_;
};

/// Top-k over a softmax, with its full cost, whose choice is then replaced by that of a table: what is timed includes
/// the router, and the load of the experts is what was asked for.
struct DrawnChoice {
    moe::TokenChoice<moe::Softmax> choice{};
    const std::span<const std::int32_t>* table = nullptr;  ///< changes from batch to batch

    [[nodiscard]] int max_per_token() const { return choice.max_per_token(); }
    [[nodiscard]] int select(std::span<const float> logits, moe::TokenContext context, moe::Selection out) const {
        const int n = choice.select(logits, out);
        const auto row = table->subspan(static_cast<std::size_t>(context.token_id) * static_cast<std::size_t>(n));
        std::copy_n(row.begin(), n, out.experts.begin());
        return n;
    }
};

}  // namespace bench
