#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "../core/error.hpp"

/// What a model with experts costs: parameters, operations, bytes and the time a machine needs at least. Numbers of
/// parameters are doubles, exact up to 2^53.
namespace moe::inline MOE_ABI {

/// How many of `n_experts` a batch of `n_tokens` needs, if every token takes `experts_per_token` different ones, all
/// equally likely and independent of the other tokens: E (1 - (1 - K/E)^T), since one token misses an expert with
/// probability 1 - K/E. A skewed load needs fewer. Throws Error(range) unless 0 <= K <= E.
[[nodiscard]] inline double expected_distinct_experts(std::size_t n_experts, double experts_per_token,
                                                      std::size_t n_tokens) {
    const auto experts = static_cast<double>(n_experts);
    ensure(experts_per_token >= 0 && experts_per_token <= experts, ErrorCode::range,
           "expected_distinct_experts: ", experts_per_token, " experts a token of ", n_experts);
    if (n_tokens == 0 || n_experts == 0) {
        return 0;
    }
    // (1 - x)^T through logarithms: 1 - K/E alone would lose a small K/E
    return -experts * std::expm1(static_cast<double>(n_tokens) * std::log1p(-experts_per_token / experts));
}

/// Parameters of the layers of a model that have experts, all alike: for models of which only such numbers are known.
struct ExpertParameters {
    std::size_t n_layers = 1;
    std::size_t n_experts = 0;
    double experts_per_token = 0;  ///< top-k, or a mean where it varies
    double expert = 0;             ///< of one expert of one layer
    double shared = 0;             ///< of the shared experts of one layer and their gates
    double router = 0;             ///< of one layer

    /// Throws Error(range): no layers, experts or parameters of one, experts_per_token outside 0..n_experts, a number
    /// that is negative or not finite.
    void validate() const {
        ensure(n_layers > 0 && n_experts > 0, ErrorCode::range, "ExpertParameters: ", n_layers, " layers of ",
               n_experts, " experts; neither may be 0");
        ensure(experts_per_token > 0 && experts_per_token <= static_cast<double>(n_experts), ErrorCode::range,
               "ExpertParameters: ", experts_per_token, " experts a token of ", n_experts);
        ensure(std::isfinite(expert) && std::isfinite(shared) && std::isfinite(router) && expert > 0 && shared >= 0 &&
                   router >= 0,
               ErrorCode::range, "ExpertParameters: ", expert, " parameters an expert, ", shared, " shared, ", router,
               " of the router; the first must be above 0, the others at least 0");
    }
};

/// Sizes of the layers of a model that have experts, all alike.
struct ExpertSizes {
    std::size_t n_layers = 0;
    std::size_t n_experts = 0;
    double experts_per_token = 0;  ///< top-k, or a mean where it varies
    std::size_t d_model = 0;
    std::size_t d_ff = 0;          ///< of one expert
    bool gated = true;             ///< three matrices an expert (SwiGLU), not two
    bool biases = false;           ///< of every matrix of an expert
    std::size_t shared_d_ff = 0;   ///< of all shared experts together
    std::size_t shared_gates = 0;  ///< vectors of d_model that gate them
    bool router_bias = false;      ///< a bias of the logits or of the selection

    /// Throws Error(range): a size of 0, experts_per_token outside 0..n_experts.
    void validate() const {
        ensure(n_layers > 0 && n_experts > 0 && d_model > 0 && d_ff > 0, ErrorCode::range, "ExpertSizes: ", n_layers,
               " layers of ", n_experts, " experts, d_model ", d_model, ", d_ff ", d_ff, "; none may be 0");
        ensure(experts_per_token > 0 && experts_per_token <= static_cast<double>(n_experts), ErrorCode::range,
               "ExpertSizes: ", experts_per_token, " experts a token of ", n_experts);
    }

    /// Of one expert: 3 d_model d_ff if gated, else 2 d_model d_ff, and biases; of the shared ones likewise.
    [[nodiscard]] ExpertParameters parameters() const noexcept {
        const auto width = static_cast<double>(d_model);
        return {.n_layers = n_layers,
                .n_experts = n_experts,
                .experts_per_token = experts_per_token,
                .expert = feed_forward(d_ff),
                .shared = (shared_d_ff > 0 ? feed_forward(shared_d_ff) : 0) + static_cast<double>(shared_gates) * width,
                .router = static_cast<double>(n_experts) * (width + (router_bias ? 1 : 0))};
    }

private:
    [[nodiscard]] double feed_forward(std::size_t hidden) const noexcept {
        const auto inner = static_cast<double>(hidden);
        const auto outer = static_cast<double>(d_model);
        const double projections = gated ? 2 : 1;
        return (projections + 1) * outer * inner + (biases ? projections * inner + outer : 0);
    }
};

/// Parameters of everything else: attention, dense layers, norms, embeddings. Publishers differ in what they call
/// active: some count the matrix of the input embedding, of which a token reads one row, others do not.
struct OtherParameters {
    double total = 0;
    double active = 0;  ///< that a token is multiplied with
};

/// Bytes a weight takes in memory, scales of its block included: 2 for bfloat16, 0.5 + 4.0 / 32 for blocks of 32 codes
/// of 4 bits with a float.
struct BytesPerWeight {
    double experts = 2;  ///< shared ones included
    double others = 2;   ///< routers included
};

/// The limits of a machine.
struct MachineLimits {
    double flops_per_second = 0;
    double bytes_per_second = 0;
};

/// What a batch costs.
struct BatchCost {
    double tokens = 0;
    double distinct_experts = 0;  ///< expected in each layer
    double flops = 0;
    double bytes = 0;  ///< of weights; activations and caches are not in it

    [[nodiscard]] double compute_seconds(const MachineLimits& machine) const {
        return flops / machine.flops_per_second;
    }
    [[nodiscard]] double memory_seconds(const MachineLimits& machine) const { return bytes / machine.bytes_per_second; }

    /// The least time the limits allow, max(flops / peak, bytes / bandwidth): the roofline of Williams, Waterman and
    /// Patterson 2009. It takes every weight to come from memory, and both limits to be reached at once.
    [[nodiscard]] double seconds(const MachineLimits& machine) const {
        return (std::max)(compute_seconds(machine), memory_seconds(machine));
    }
    [[nodiscard]] double tokens_per_second(const MachineLimits& machine) const { return tokens / seconds(machine); }
};

/// The arithmetic of a model: parameters, and what a batch of tokens costs.
class CostModel {
public:
    /// Throws Error(range): as ExpertSizes::validate, other parameters that are negative or active beyond their total.
    explicit CostModel(const ExpertSizes& sizes, const OtherParameters& others = {})
        : CostModel(sizes, sizes.parameters(), others) {
        sizes.validate();
    }

    /// A model of which numbers of parameters are known and sizes are not: d_model and d_ff of sizes() are 0. Throws
    /// Error(range): as ExpertParameters::validate, and of `others` as above.
    [[nodiscard]] static CostModel of(const ExpertParameters& parameters, const OtherParameters& others = {}) {
        parameters.validate();
        ExpertSizes sizes;
        sizes.n_layers = parameters.n_layers;
        sizes.n_experts = parameters.n_experts;
        sizes.experts_per_token = parameters.experts_per_token;
        return CostModel(sizes, parameters, others);
    }

    /// A model without a choice, one expert that every token takes: what a mixture is held against. Throws Error(range)
    /// unless `parameters` is finite and above 0.
    [[nodiscard]] static CostModel dense(double parameters) {
        return of({.n_layers = 1, .n_experts = 1, .experts_per_token = 1, .expert = parameters});
    }

    [[nodiscard]] const ExpertSizes& sizes() const noexcept { return sizes_; }
    [[nodiscard]] const OtherParameters& others() const noexcept { return others_; }

    /// Of one expert: 3 d_model d_ff if gated, else 2 d_model d_ff, and biases.
    [[nodiscard]] double expert_parameters() const noexcept { return parameters_.expert; }
    /// Of the shared experts of one layer and their gates.
    [[nodiscard]] double shared_parameters() const noexcept { return parameters_.shared; }
    /// Of the router of one layer.
    [[nodiscard]] double router_parameters() const noexcept { return parameters_.router; }

    /// All: L (E expert + shared + router) + others.
    [[nodiscard]] double total_parameters() const noexcept {
        return layers_with(number(sizes_.n_experts)) + others_.total;
    }
    /// Those that take part for one token: L (K expert + shared + router) + active others.
    [[nodiscard]] double active_parameters() const noexcept {
        return layers_with(sizes_.experts_per_token) + others_.active;
    }

    /// A multiplication and an addition for every active parameter. Products of attention with its cache, which grow
    /// with the context, are not in it.
    [[nodiscard]] double flops_per_token() const noexcept { return 2 * active_parameters(); }

    /// Bytes of all weights: what memory must hold, whatever a batch reads of it.
    [[nodiscard]] double weight_bytes(const BytesPerWeight& bytes = {}) const noexcept {
        return read_with(number(sizes_.n_experts), others_.total, bytes);
    }

    /// What `n_tokens` tokens in one batch cost: every layer reads each expert that some token needs once, and all that
    /// is not an expert once.
    [[nodiscard]] BatchCost batch(std::size_t n_tokens, const BytesPerWeight& bytes = {}) const {
        const double distinct = expected_distinct_experts(sizes_.n_experts, sizes_.experts_per_token, n_tokens);
        return {.tokens = number(n_tokens),
                .distinct_experts = distinct,
                .flops = number(n_tokens) * flops_per_token(),
                .bytes = n_tokens == 0 ? 0 : read_with(distinct, others_.active, bytes)};
    }

private:
    CostModel(const ExpertSizes& sizes, const ExpertParameters& parameters, const OtherParameters& others)
        : sizes_(sizes), parameters_(parameters), others_(others) {
        ensure(others.active >= 0 && others.active <= others.total, ErrorCode::range, "CostModel: of ", others.total,
               " other parameters ", others.active, " are active");
    }

    [[nodiscard]] static double number(std::size_t n) noexcept { return static_cast<double>(n); }

    [[nodiscard]] double layers_with(double n_experts) const noexcept {
        return number(sizes_.n_layers) * (n_experts * expert_parameters() + shared_parameters() + router_parameters());
    }

    [[nodiscard]] double read_with(double n_experts, double others, const BytesPerWeight& bytes) const noexcept {
        const double layers = number(sizes_.n_layers);
        return layers * (n_experts * expert_parameters() + shared_parameters()) * bytes.experts +
               (layers * router_parameters() + others) * bytes.others;
    }

    ExpertSizes sizes_;
    ExpertParameters parameters_;
    OtherParameters others_;
};

}  // namespace moe::inline MOE_ABI
