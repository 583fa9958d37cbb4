#include "strategies.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <moe/core/random.hpp>
#include <moe/moe.hpp>

namespace compare {

namespace {

using Choice = std::optional<moe::AnyGate>;

/// `gate`, or nothing where its own validation refuses the number of experts.
template <class G>
Choice if_valid(const Setting& setting, G gate) {
    try {
        moe::validate_gate(gate, setting.n_experts);
    } catch (const moe::Error&) {
        return std::nullopt;
    }
    return Choice(std::move(gate));
}

template <int K>
Choice top(const Setting& setting) {
    return if_valid(setting, moe::TokenChoice<moe::Softmax>{.top_k = K, .normalize = true});
}

/// DeepSeek-V3: sigmoid scores, a bias moves the choice alone. Owns the bias.
struct BiasedSigmoid {
    std::vector<float> bias;
    int top_k = 1;

    [[nodiscard]] int max_per_token() const { return top_k; }
    void validate(std::size_t n_experts) const { gate().validate(n_experts); }
    template <std::floating_point T>
    int select(std::span<const T> logits, moe::BasicSelection<T> out) const {
        return gate().select(logits, out);
    }

private:
    [[nodiscard]] moe::TokenChoice<moe::Sigmoid> gate() const {
        return {.top_k = top_k, .normalize = true, .selection_bias = bias};
    }
};

Choice biased_sigmoid(const Setting& setting) {
    BiasedSigmoid gate{{setting.bias.begin(), setting.bias.end()}, static_cast<int>(setting.top_k)};
    gate.bias.resize(setting.n_experts);
    return gate;
}

/// 8 groups (4 for few experts) of which half take part.
Choice limited_groups(const Setting& setting) {
    const int n_groups = setting.n_experts >= 32 ? 8 : 4;
    return if_valid(setting, moe::TokenChoice<moe::Softmax>{.top_k = static_cast<int>(setting.top_k),
                                                            .normalize = true,
                                                            .groups = {.n_groups = n_groups, .kept = n_groups / 2}});
}

/// A table of its own for moe::Hash.
struct RandomHash {
    std::shared_ptr<const std::vector<std::int32_t>> table;
    std::size_t top_k = 1;

    static constexpr bool needs_logits = false;

    [[nodiscard]] std::size_t max_per_token() const { return top_k; }
    void validate(std::size_t n_experts) const { gate().validate(n_experts); }
    template <std::floating_point T>
    int select(std::span<const T> logits, moe::TokenContext context, moe::BasicSelection<T> out) const {
        return gate().select(logits, context, out);
    }

private:
    [[nodiscard]] moe::Hash<> gate() const {
        moe::Hash<> hash;
        hash.table = moe::view(table->data(), table->size() / top_k, top_k);
        hash.normalize = true;
        return hash;
    }
};

/// Different experts for each token id, all alike: the beginning of a shuffle.
Choice random_hash(const Setting& setting) {
    std::vector<std::int32_t> table;
    std::vector<std::int32_t> experts(setting.n_experts);
    for (std::size_t e = 0; e < experts.size(); ++e) {
        experts[e] = static_cast<std::int32_t>(e);
    }
    std::uint64_t draw = 0;
    for (std::size_t id = 0; id < setting.vocabulary; ++id) {
        for (std::size_t slot = 0; slot < setting.top_k; ++slot) {
            std::swap(experts[slot], experts[slot + moe::random_bits(setting.seed, draw++) % (experts.size() - slot)]);
        }
        table.insert(table.end(), experts.begin(), experts.begin() + static_cast<std::ptrdiff_t>(setting.top_k));
    }
    return RandomHash{std::make_shared<const std::vector<std::int32_t>>(std::move(table)), setting.top_k};
}

constexpr std::array all_strategies{
    Strategy{"top-1", "the best expert of each token (Switch)", true, top<1>},
    Strategy{"top-2", "the two best experts of each token, weights of sum 1 (Mixtral)", true, top<2>},
    Strategy{"top-4", "the four best experts of each token", true, top<4>},
    Strategy{"top-8", "the eight best experts of each token", true, top<8>},
    Strategy{"sigmoid-bias", "top-k of sigmoid scores plus a bias that balances the load (DeepSeek-V3)", true,
             biased_sigmoid},
    Strategy{"groups", "top-k within the better half of the groups of experts (DeepSeek-V2)", true, limited_groups},
    Strategy{"sparse-mixer", "two experts, each weighted among those near it (Phi-3.5-MoE)", true,
             [](const Setting& s) { return if_valid(s, moe::SparseMixer{}); }},
    Strategy{"hash", "a random table gives each token id its k experts", true, random_hash},
    Strategy{"dense", "every expert for every token, weighted by the softmax", true,
             [](const Setting&) { return Choice(moe::Dense<>{}); }},
};

}  // namespace

std::span<const Strategy> strategies() noexcept { return all_strategies; }

}  // namespace compare
